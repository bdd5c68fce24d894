/* What the mock says on its chat routes, in each dialect: answers of ANSWER_SIZE bytes, events of EVENT_SIZE.
 *
 * When an event is due, and how it travels, is for the file that includes this to say; it defines put_event.
 * No two events of a stream are the same: some proxies take a repeated chunk for a model gone mad. */
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

enum { ANSWER_SIZE = 1024, EVENT_SIZE = 200 };

struct conn;
static void put_event(struct conn *c, const char *text); /* one event, whole, as a chunk of its own */

struct voice {
    const char *path;
    const char *answer;                                          /* a plain answer, with usage */
    void (*begin)(struct conn *c);                               /* what comes before the first text */
    void (*say)(struct conn *c, uint64_t number);                /* the text with this number */
    void (*end)(struct conn *c, uint64_t said, bool with_usage); /* after so many texts */
};

/* A JSON text of ANSWER_SIZE bytes from a format with one "%0*d" for the answer's words. */
#define FILL(into, format) snprintf(into, sizeof into, format, ANSWER_SIZE - (int)(sizeof format - 1 - 4), 0)

/* OpenAI Chat Completions ----------------------------------------------------------------------------- */

#define CHAT_ANSWER \
    "{\"id\":\"chatcmpl-mock\",\"object\":\"chat.completion\",\"created\":1750000000,\"model\":\"mock\"," \
    "\"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":\"%0*d\"}," \
    "\"logprobs\":null,\"finish_reason\":\"stop\"}]," \
    "\"usage\":{\"prompt_tokens\":200,\"completion_tokens\":180,\"total_tokens\":380}}"
#define CHUNK "data: {\"id\":\"chatcmpl-mock\",\"object\":\"chat.completion.chunk\",\"created\":1750000000," \
              "\"model\":\"mock\",\"choices\":["

static void chat_begin(struct conn *c) {
    (void)c; /* the first text says it all */
}

static void chat_say(struct conn *c, uint64_t number) {
    char text[EVENT_SIZE + 1];
    snprintf(text, sizeof text,
             CHUNK "{\"index\":0,\"delta\":{\"content\":\" %016llu\"},\"logprobs\":null,"
                   "\"finish_reason\":null}]}\n\n",
             (unsigned long long)number);
    put_event(c, text);
}

static void chat_end(struct conn *c, uint64_t said, bool with_usage) {
    put_event(c, CHUNK "{\"index\":0,\"delta\":{},\"logprobs\":null,\"finish_reason\":\"stop\"}]}\n\n");
    if (with_usage) {
        char usage[512];
        snprintf(usage, sizeof usage,
                 CHUNK "],\"usage\":{\"prompt_tokens\":200,\"completion_tokens\":%llu,"
                       "\"total_tokens\":%llu}}\n\n",
                 (unsigned long long)said, (unsigned long long)said + 200);
        put_event(c, usage);
    }
    put_event(c, "data: [DONE]\n\n");
}

/* Anthropic Messages ---------------------------------------------------------------------------------- */

#define MESSAGE_HEAD "\"id\":\"msg_mock\",\"type\":\"message\",\"role\":\"assistant\",\"model\":\"mock\","
#define MESSAGE_ANSWER \
    "{" MESSAGE_HEAD "\"content\":[{\"type\":\"text\",\"text\":\"%0*d\"}]," \
    "\"stop_reason\":\"end_turn\",\"stop_sequence\":null," \
    "\"usage\":{\"input_tokens\":200,\"output_tokens\":180}}"
#define EVENT(name, rest) "event: " name "\ndata: {\"type\":\"" name "\"" rest "}\n\n"

static void message_begin(struct conn *c) {
    put_event(c, EVENT("message_start", ",\"message\":{" MESSAGE_HEAD "\"content\":[],\"stop_reason\":null,"
                       "\"stop_sequence\":null,\"usage\":{\"input_tokens\":200,\"output_tokens\":1}}"));
    put_event(c, EVENT("content_block_start",
                       ",\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"\"}"));
}

#define DELTA \
    EVENT("content_block_delta", ",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\" %0*llu\"}")

static void message_say(struct conn *c, uint64_t number) {
    char text[EVENT_SIZE + 1];
    int digits = EVENT_SIZE - (int)(sizeof DELTA - 1 - 6);
    snprintf(text, sizeof text, DELTA, digits, (unsigned long long)number);
    put_event(c, text);
}

static void message_end(struct conn *c, uint64_t said, bool with_usage) {
    (void)with_usage; /* nobody has to ask for it */
    char last[512];
    put_event(c, EVENT("content_block_stop", ",\"index\":0"));
    snprintf(last, sizeof last,
             EVENT("message_delta", ",\"delta\":{\"stop_reason\":\"end_turn\",\"stop_sequence\":null},"
                   "\"usage\":{\"output_tokens\":%llu}"),
             (unsigned long long)said);
    put_event(c, last);
    put_event(c, EVENT("message_stop", ""));
}

/* All of them ----------------------------------------------------------------------------------------- */

static char chat_answer[ANSWER_SIZE + 1], message_answer[ANSWER_SIZE + 1];

static const struct voice voices[] = {
    {"/v1/chat/completions", chat_answer, chat_begin, chat_say, chat_end},
    {"/v1/messages", message_answer, message_begin, message_say, message_end},
};

static void prepare_voices(void) {
    FILL(chat_answer, CHAT_ANSWER);
    FILL(message_answer, MESSAGE_ANSWER);
}

static const struct voice *voice_at(const char *path) {
    for (size_t i = 0; i < sizeof voices / sizeof *voices; i++) {
        if (!strcmp(path, voices[i].path)) return &voices[i];
    }
    return NULL;
}
