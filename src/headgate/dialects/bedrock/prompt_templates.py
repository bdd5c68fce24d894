"""Conversations as one prompt, the way each vendor publishes it, both ways.

A template's `marks` match what the model reads as a mark of it wherever that stands: no text may hold any.
`leads`: a system prompt can only come first; `names_system`: it is told apart from what the user says.

Sources: Meta, "Llama 2", "Llama 3.1" and "Llama 4" model cards and prompt formats; Mistral AI, "Prompting
capabilities" (instruct template); Amazon Bedrock user guide, "Amazon Titan Text models".
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias

Speaker: TypeAlias = Literal["system", "user", "assistant"]


class Turn(NamedTuple):
    role: Speaker
    text: str


_SPEAKERS: Mapping[str, Speaker] = {"system": "system", "user": "user", "assistant": "assistant"}


@dataclass(frozen=True, slots=True)
class Headed:
    """Each turn behind a header that names its role: Llama from 3 on."""

    opens: str
    closes: str
    end: str
    marks: re.Pattern[str] | None = re.compile(r"<\|[a-z_]+\|>")
    leads: bool = False
    names_system: bool = True

    def render(self, turns: Sequence[Turn]) -> str:
        """The prompt, up to where the model is to go on. Roles alternate."""
        written = [f"{self._head(turn.role)}{turn.text}{self.end}" for turn in turns]
        if turns[-1].role == "assistant":  # the model is to go on with these words
            written[-1] = written[-1].removesuffix(self.end)
        else:
            written.append(self._head("assistant"))
        return "<|begin_of_text|>" + "".join(written)

    def _head(self, role: Speaker) -> str:
        return f"{self.opens}{role}{self.closes}\n\n"

    def parse(self, prompt: str) -> list[Turn] | None:
        """The turns; None for a prompt of another form."""
        rest = prompt.strip().removeprefix("<|begin_of_text|>").lstrip()
        if not rest.startswith(self.opens):
            return None
        turns: list[Turn] = []
        for piece in rest.split(self.opens)[1:]:
            name, closed, text = piece.partition(self.closes)
            role = _SPEAKERS.get(name)
            text, _, more = text.partition(self.end)
            if role is None or not closed or more.strip():
                return None
            turns.append(Turn(role, text.strip()))
        return _without_opening(turns)


@dataclass(frozen=True, slots=True)
class Instructed:
    """The user's turns between `[INST]` and `[/INST]`: Llama 2, and Mistral's instruct models."""

    system: tuple[str, str] | None
    """What stands around a system prompt, in the first instruction; None: nothing tells it apart."""
    between: str
    """What stands between an answer and the next instruction."""
    marks: re.Pattern[str] | None = re.compile(r"\[/?INST\]|</?s>|<</?SYS>>")
    leads: bool = True

    @property
    def names_system(self) -> bool:
        return self.system is not None

    def render(self, turns: Sequence[Turn]) -> str:
        rest = list(turns)
        system = rest.pop(0).text if rest[0].role == "system" else ""
        if system and self.system is not None:
            system = self.system[0] + system + self.system[1]
        elif system:
            system += "\n\n"
        if not rest or rest[0].role == "assistant":
            rest.insert(0, Turn("user", ""))
        prompt = "<s>"
        for turn in rest:
            if turn.role == "user":
                prompt += f"{'' if prompt == '<s>' else self.between}[INST] {system}{turn.text} [/INST]"
                system = ""
            else:
                prompt += f" {turn.text}"
        return prompt

    def parse(self, prompt: str) -> list[Turn] | None:
        rest = prompt.strip().removeprefix("<s>").lstrip()
        if not rest.startswith("[INST]"):
            return None
        turns: list[Turn] = []
        for piece in rest.split("[INST]")[1:]:
            asked, closed, answer = piece.partition("[/INST]")
            if not closed or "[/INST]" in answer:
                return None
            answer = answer.strip().removesuffix("<s>").rstrip().removesuffix("</s>").rstrip()
            turns += [*self._asked(asked.strip()), Turn("assistant", answer)]
        return _without_opening(turns)

    def _asked(self, text: str) -> list[Turn]:
        if self.system is None or not text.startswith("<<SYS>>"):
            return [Turn("user", text)]
        system, _, rest = text.removeprefix("<<SYS>>").partition("<</SYS>>")
        return [Turn("system", system.strip()), *([Turn("user", rest.strip())] if rest.strip() else [])]


@dataclass(frozen=True, slots=True)
class Labelled:
    """A line for each turn, `User:` and `Bot:`, the instructions above them: Titan Text."""

    marks: re.Pattern[str] | None = None
    leads: bool = True
    names_system: bool = True

    def render(self, turns: Sequence[Turn]) -> str:
        labels: Mapping[Speaker, str] = {"system": "", "user": "User: ", "assistant": "Bot: "}
        lines = [labels[turn.role] + turn.text for turn in turns]
        return "\n".join(lines if turns[-1].role == "assistant" else [*lines, "Bot:"])

    def parse(self, prompt: str) -> list[Turn] | None:
        pieces = re.split(r"(?:^|\n)(User|Bot):", prompt)
        if len(pieces) == 1:
            return None
        turns = [Turn("system", pieces[0].strip())] if pieces[0].strip() else []
        for label, text in zip(pieces[1::2], pieces[2::2], strict=True):
            turns.append(Turn("user" if label == "User" else "assistant", text.strip()))
        return _without_opening(turns)


def _without_opening(turns: list[Turn]) -> list[Turn] | None:
    """Without the model's turn that the prompt opens; None where nothing is said at all."""
    told = [turn for turn in turns if turn.text]
    return told or None


Template: TypeAlias = Headed | Instructed | Labelled

LLAMA_2 = Instructed(("<<SYS>>\n", "\n<</SYS>>\n\n"), " </s><s>")
LLAMA_3 = Headed("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>")
LLAMA_4 = Headed("<|header_start|>", "<|header_end|>", "<|eot|>")
MISTRAL = Instructed(None, "</s> ")
TITAN = Labelled()
