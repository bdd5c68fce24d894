"""The effort word that an OpenAI upstream is told, in Chat Completions and in Responses."""

from __future__ import annotations

from headgate.core.loss import Loss
from headgate.core.messages import ChatRequest, ReasoningOptions
from headgate.dialects.efforts import effort_of, nearest
from headgate.dialects.openai_chat.profile import EFFORT, Profile


def effort_to_tell(
    request: ChatRequest, model: str, profile: Profile, losses: list[Loss], *, beside_tools: bool
) -> str | None:
    """The caller's effort word, as near to it as the model has; for a budget or a switch the word that suits,
    where the model takes it; what the model wants to hear where there are tools.

    Args:
        request: what to ask.
        model: the upstream's name for the model.
        profile: what the upstream takes.
        losses: added to.
        beside_tools: the API takes an effort beside tools from any model that has one.
    """
    options = request.reasoning or ReasoningOptions()
    word = effort_of(options)
    known = profile.for_model(model, word)
    if EFFORT in known.refuses:
        if options.effort not in (None, known.refuses[EFFORT]):
            losses.append(Loss("reasoning.effort", "the model takes no effort word"))
        return None
    if request.tools and known.effort_with_tools != "any" and not beside_tools:
        told = "none" if known.effort_with_tools == "none" or options.effort == "none" else None
        if options.effort not in (None, told):
            losses.append(Loss("reasoning.effort", "the model takes none beside tools, but by Responses"))
        return told
    if options.effort is None:
        return word if word in known.efforts else None
    near = nearest(options.effort, known.words) if known.words else options.effort
    if near != options.effort:
        why = f"sent as '{near}', the nearest that the model has" if near else "the model has no such word"
        losses.append(Loss("reasoning.effort", why))
    return near


def is_meant_anyway(options: ReasoningOptions, profile: Profile) -> bool:
    """The model, which takes no effort word, does by itself what the options ask for."""
    word = effort_of(options)
    return word is not None and word == profile.refuses.get(EFFORT)
