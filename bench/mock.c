/* A scripted upstream: HTTP/1.1 over epoll, one thread, loopback only.
 *
 *   mock [--port P] [--chunks N] [--pace-us P] [--first-us F] [--slow S]
 *
 * Prints "listening PORT" and serves until SIGTERM. The port is a free one unless told.
 *
 *   POST /v1/chat/completions   about 1 KB of JSON with usage; with "stream": true a chunked event stream:
 *                               the first event at once, then one of 200 bytes every P microseconds, N in
 *                               all, then usage if the request asked for it, then [DONE].
 *   POST /v1/messages           the same in Anthropic's dialect: message_start and content_block_start before
 *                               the first event of text, usage in message_delta, message_stop at the end.
 *   POST /v1/embeddings         a small reply.
 *   GET  /v1/models             one model.
 *   GET  /stats                 counters, as JSON.
 *   POST /settings?chunks=N&pace_us=P&first_us=F&slow=S   changes them, all or some; streams that run already
 *                               obey at their next event.
 *
 * A chat answer begins after F microseconds, drawn evenly from half of it to one and a half; of a thousand
 * answers S, drawn too, take 20 times as long. F is 0 unless told: at once.
 *
 * The second event of a stream comes after a part of the pace that differs from stream to stream: streams
 * that were opened together would otherwise tick together for ever, and every server would look cheap.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

enum { MAX_HEAD = 64 << 10, MAX_BODY = 64 << 20, MAX_UNSENT = 1 << 20, MAX_EVENTS = 512, MAX_CONNS = 65536 };

#define DUE_MAX MAX_CONNS
#include "due.h"
#include "voices.h"

struct buffer {
    char *data;
    size_t start, end, cap; /* data[start..end) is what is in it */
};

struct conn {
    struct due next_event; /* first: a due entry is its connection */
    int fd;
    struct buffer in, out;
    bool waiting, streaming; /* either is an answer under way, with an entry among those due */
    bool wants_stream, with_usage, close_after, writing;
    const struct voice *voice; /* of this stream */
    uint64_t sent;             /* texts of this stream so far */
    struct conn *next_dead;
};

static struct {
    uint64_t connections, streams, requests, chats, chunks, aborted;
} stats; /* streams: answers under way, those that wait to begin included; aborted: those cut off */
static uint64_t chunks_per_stream = 100, pace_ns = 20 * 1000000ull, opened_streams;
static uint64_t first_ns, slow_per_mille, random_state;
static int epoll_fd, timer_fd, listen_fd;
static struct conn *dead;
static volatile sig_atomic_t stopping;
static const char embedding[] =
    "{\"object\":\"list\",\"data\":[{\"object\":\"embedding\",\"index\":0,"
    "\"embedding\":[0.25,-0.5,0.125,0.75]}],\"model\":\"mock\","
    "\"usage\":{\"prompt_tokens\":4,\"total_tokens\":4}}";

static void die(const char *what) {
    perror(what);
    exit(1);
}

static uint64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000ull + (uint64_t)t.tv_nsec;
}

/* Buffers ------------------------------------------------------------------------------------------- */

static bool reserve(struct buffer *b, size_t room) {
    if (b->start == b->end) b->start = b->end = 0;
    if (b->cap - b->end >= room) return true;
    if (b->start) {
        memmove(b->data, b->data + b->start, b->end - b->start);
        b->end -= b->start;
        b->start = 0;
        if (b->cap - b->end >= room) return true;
    }
    size_t cap = b->cap ? b->cap : 4096;
    while (cap - b->end < room) cap *= 2;
    char *data = realloc(b->data, cap);
    if (!data) return false;
    b->data = data;
    b->cap = cap;
    return true;
}

static void release(struct buffer *b) {
    free(b->data);
    memset(b, 0, sizeof *b);
}

static void arm_timer(void) {
    static uint64_t armed;
    uint64_t due = due_first() ? due_first()->at : 0;
    if (due == armed) return;
    armed = due;
    struct itimerspec t = {.it_value = {(time_t)(due / 1000000000ull), (long)(due % 1000000000ull)}};
    timerfd_settime(timer_fd, TFD_TIMER_ABSTIME, &t, NULL);
}

/* Connections ----------------------------------------------------------------------------------------- */

static bool busy(const struct conn *c) {
    return c->waiting || c->streaming;
}

static void watch(struct conn *c, bool writing) {
    if (c->writing == writing) return;
    c->writing = writing;
    struct epoll_event e = {.events = EPOLLIN | (writing ? EPOLLOUT : 0), .data.ptr = c};
    epoll_ctl(epoll_fd, EPOLL_CTL_MOD, c->fd, &e);
}

static void drop(struct conn *c) {
    if (c->fd < 0) return;
    if (busy(c)) {
        due_remove(&c->next_event);
        c->waiting = c->streaming = false;
        stats.streams--;
        stats.aborted++;
    }
    close(c->fd);
    c->fd = -1;
    release(&c->in);
    release(&c->out);
    c->next_dead = dead; /* freed after this round: an event for it may still be in the list */
    dead = c;
    stats.connections--;
}

static void flush_out(struct conn *c) {
    struct buffer *b = &c->out;
    while (b->start < b->end) {
        ssize_t n = send(c->fd, b->data + b->start, b->end - b->start, MSG_NOSIGNAL);
        if (n < 0) {
            if (errno == EINTR) continue;
            if (errno == EAGAIN) watch(c, true);
            else drop(c);
            return;
        }
        b->start += (size_t)n;
    }
    release(b);
    watch(c, false);
    if (c->close_after && !busy(c)) drop(c);
}

static void put(struct conn *c, const void *data, size_t size) {
    if (c->fd < 0) return;
    if (!reserve(&c->out, size)) {
        drop(c);
        return;
    }
    memcpy(c->out.data + c->out.end, data, size);
    c->out.end += size;
}

static void reply(struct conn *c, const char *status, const char *body, size_t size) {
    char head[256];
    int n = snprintf(head, sizeof head,
                     "HTTP/1.1 %s\r\ncontent-type: application/json\r\ncontent-length: %zu\r\n%s\r\n",
                     status, size, c->close_after ? "connection: close\r\n" : "");
    put(c, head, (size_t)n);
    put(c, body, size);
}

/* Streams --------------------------------------------------------------------------------------------- */

static void put_event(struct conn *c, const char *text) {
    char frame[1024];
    int n = snprintf(frame, sizeof frame, "%zx\r\n%s\r\n", strlen(text), text);
    put(c, frame, (size_t)n);
}

static void put_text(struct conn *c) {
    c->voice->say(c, ++c->sent);
    stats.chunks++;
}

static void end_stream(struct conn *c) {
    c->voice->end(c, c->sent, c->with_usage);
    put(c, "0\r\n\r\n", 5);
    if (c->fd < 0) return;
    due_remove(&c->next_event);
    c->streaming = false;
    stats.streams--;
}

static void start_stream(struct conn *c) {
    static const char head[] = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n"
                               "cache-control: no-cache\r\ntransfer-encoding: chunked\r\n\r\n";
    put(c, head, sizeof head - 1);
    c->sent = 0;
    c->voice->begin(c);
    put_text(c);
    if (c->fd < 0) return;
    stats.streams++;
    c->streaming = true;
    /* The golden ratio's multiples spread evenly however many there are. */
    uint64_t part = (++opened_streams * 0x9E3779B97F4A7C15ull) >> 44;
    due_add(&c->next_event, now_ns() + pace_ns * part / (1 << 20));
    if (chunks_per_stream <= 1) end_stream(c);
}

/* Answers --------------------------------------------------------------------------------------------- */

static uint64_t draw(uint64_t below) { /* splitmix64 */
    uint64_t z = random_state += 0x9E3779B97F4A7C15ull;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9ull;
    z = (z ^ z >> 27) * 0x94D049BB133111EBull;
    return (z ^ z >> 31) % below;
}

static void begin_answer(struct conn *c) {
    if (c->wants_stream) start_stream(c);
    else reply(c, "200 OK", c->voice->answer, ANSWER_SIZE);
}

static void take_chat(struct conn *c, const struct voice *voice, bool wants_stream, bool with_usage) {
    stats.chats++;
    c->voice = voice;
    c->wants_stream = wants_stream;
    c->with_usage = with_usage;
    if (!first_ns) {
        begin_answer(c);
        return;
    }
    uint64_t wait = first_ns / 2 + draw(first_ns);
    if (draw(1000) < slow_per_mille) wait *= 20;
    c->waiting = true;
    stats.streams++;
    due_add(&c->next_event, now_ns() + wait);
}

static void end_wait(struct conn *c) {
    due_remove(&c->next_event);
    c->waiting = false;
    stats.streams--;
    begin_answer(c);
}

/* Requests -------------------------------------------------------------------------------------------- */

static bool says(const char *body, size_t size, const char *key) {
    /* `"key" : true` anywhere in the body: enough for bodies that this bench itself writes. */
    size_t length = strlen(key);
    const char *end = body + size, *at = body;
    while ((at = memmem(at, (size_t)(end - at), key, length))) {
        at += length;
        const char *p = at;
        while (p < end && (*p == ' ' || *p == '\n')) p++;
        if (p < end && *p == ':') {
            p++;
            while (p < end && (*p == ' ' || *p == '\n')) p++;
            if (end - p >= 4 && !memcmp(p, "true", 4)) return true;
        }
    }
    return false;
}

static uint64_t parameter(const char *path, const char *name, uint64_t fallback) {
    const char *at = strstr(path, name);
    return at ? strtoull(at + strlen(name), NULL, 10) : fallback;
}

static void serve(struct conn *c, const char *path, const char *body, size_t size) {
    stats.requests++;
    const struct voice *voice = voice_at(path);
    if (voice) {
        take_chat(c, voice, says(body, size, "\"stream\""), says(body, size, "\"include_usage\""));
    } else if (!strcmp(path, "/v1/embeddings")) {
        reply(c, "200 OK", embedding, sizeof embedding - 1);
    } else if (!strcmp(path, "/v1/models")) {
        static const char models[] = "{\"object\":\"list\",\"data\":[{\"id\":\"mock\",\"object\":\"model\","
                                     "\"created\":1750000000,\"owned_by\":\"bench\"}]}";
        reply(c, "200 OK", models, sizeof models - 1);
    } else if (!strcmp(path, "/stats")) {
        char text[256];
        int n = snprintf(text, sizeof text,
                         "{\"connections\":%llu,\"streams\":%llu,\"requests\":%llu,\"chats\":%llu,"
                         "\"chunks\":%llu,\"aborted\":%llu}",
                         (unsigned long long)stats.connections, (unsigned long long)stats.streams,
                         (unsigned long long)stats.requests, (unsigned long long)stats.chats,
                         (unsigned long long)stats.chunks, (unsigned long long)stats.aborted);
        reply(c, "200 OK", text, (size_t)n);
    } else if (!strncmp(path, "/settings?", 10)) {
        chunks_per_stream = parameter(path, "chunks=", chunks_per_stream);
        pace_ns = 1000 * parameter(path, "pace_us=", pace_ns / 1000);
        if (pace_ns < 1000) pace_ns = 1000;
        first_ns = 1000 * parameter(path, "first_us=", first_ns / 1000);
        slow_per_mille = parameter(path, "slow=", slow_per_mille);
        reply(c, "200 OK", "{}", 2);
    } else {
        static const char unknown[] = "{\"error\":{\"message\":\"no such route\"}}";
        reply(c, "404 Not Found", unknown, sizeof unknown - 1);
    }
}

static const char *header(const char *head, const char *end, const char *name) {
    /* The value of a header in head[..end), up to its CRLF; NULL where it is missing. */
    size_t length = strlen(name);
    for (const char *line = head; line < end;) {
        const char *eol = memmem(line, (size_t)(end - line), "\r\n", 2);
        if (!eol) return NULL;
        if ((size_t)(eol - line) > length && line[length] == ':' && !strncasecmp(line, name, length)) {
            const char *value = line + length + 1;
            while (*value == ' ') value++;
            return value;
        }
        line = eol + 2;
    }
    return NULL;
}

/* Joins a chunked body where it lies. 1: complete (size and used are set), 0: more to come, -1: broken. */
static int join_chunks(char *data, size_t have, size_t *size, size_t *used) {
    size_t at = 0, out = 0, pass;
    for (pass = 0; pass < 2; pass++) { /* first look whether all is there, then move */
        at = out = 0;
        for (;;) {
            char *eol = memmem(data + at, have - at, "\r\n", 2);
            if (!eol) return have - at > 32 ? -1 : 0;
            char *stop;
            unsigned long long n = strtoull(data + at, &stop, 16);
            if (stop == data + at || n > MAX_BODY) return -1;
            at = (size_t)(eol - data) + 2;
            if (have - at < n + 2) return 0;
            if (!n) break; /* no trailers: nobody in this bench sends any */
            if (pass) memmove(data + out, data + at, n);
            out += n;
            at += n + 2;
        }
    }
    *size = out;
    *used = at + 2;
    return 1;
}

/* Answers one request if it is complete. False: wait for more, or the connection is gone. */
static bool take_request(struct conn *c) {
    struct buffer *b = &c->in;
    size_t have = b->end - b->start;
    if (!have) return false;
    char *head = b->data + b->start;
    char *end = memmem(head, have < MAX_HEAD ? have : MAX_HEAD, "\r\n\r\n", 4);
    if (!end) {
        if (have >= MAX_HEAD) drop(c);
        return false;
    }
    char *body = end + 4;
    const char *value = header(head, end + 2, "content-length");
    size_t before = (size_t)(body - head), size = value ? strtoull(value, NULL, 10) : 0, used = size;
    if ((value = header(head, end + 2, "transfer-encoding")) && !strncasecmp(value, "chunked", 7)) {
        int whole = join_chunks(body, have - before, &size, &used);
        if (whole < 0) drop(c);
        if (whole <= 0) return false;
    } else if (size > MAX_BODY) {
        drop(c);
        return false;
    }
    if ((value = header(head, end + 2, "expect")) && have == before && !strncasecmp(value, "100-", 4)) {
        put(c, "HTTP/1.1 100 Continue\r\n\r\n", 25);
    }
    if (have - before < used) return false;
    value = header(head, end + 2, "connection");
    c->close_after = value && !strncasecmp(value, "close", 5);
    char *path = memchr(head, ' ', (size_t)(end - head)), *stop = NULL;
    if (path) stop = memchr(path + 1, ' ', (size_t)(end - path - 1));
    if (!stop) {
        drop(c);
        return false;
    }
    *stop = '\0';
    serve(c, path + 1, body, size);
    if (c->fd < 0) return false;
    b->start += before + used;
    if (b->start == b->end) release(b);
    return true;
}

static void take_requests(struct conn *c) {
    /* A pipelined request waits until the answer before it has ended. */
    while (c->fd >= 0 && !busy(c) && !c->close_after && take_request(c)) {}
    if (c->fd >= 0 && c->out.end > c->out.start) flush_out(c);
}

static void run_due(void) {
    uint64_t now = now_ns();
    while (due_first() && due_first()->at <= now) {
        struct conn *c = (struct conn *)due_first();
        if (c->waiting) {
            end_wait(c);
            if (c->fd >= 0) flush_out(c);
            if (c->fd >= 0 && !busy(c)) take_requests(c);
            continue;
        }
        uint64_t next = c->next_event.at + pace_ns;
        due_move(&c->next_event, next > now ? next : now + pace_ns); /* late: no burst to make up for it */
        if (c->out.end - c->out.start > MAX_UNSENT) continue; /* the reader is slow: skip a beat */
        if (c->sent < chunks_per_stream) {
            put_text(c);
        }
        if (c->fd >= 0 && c->sent >= chunks_per_stream) end_stream(c);
        if (c->fd >= 0) flush_out(c);
        if (c->fd >= 0 && !c->streaming) take_requests(c); /* one that was sent ahead */
    }
}

static void readable(struct conn *c) {
    for (;;) {
        if (c->in.end - c->in.start > MAX_HEAD + MAX_BODY || !reserve(&c->in, 16384)) {
            drop(c);
            return;
        }
        size_t room = c->in.cap - c->in.end;
        ssize_t n = recv(c->fd, c->in.data + c->in.end, room, 0);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0 && errno == EAGAIN) break;
        if (n <= 0) {
            drop(c);
            return;
        }
        c->in.end += (size_t)n;
        if ((size_t)n < room) break;
    }
    take_requests(c);
}

static void accept_all(void) {
    int fd;
    while ((fd = accept4(listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        struct conn *c = stats.connections < MAX_CONNS ? calloc(1, sizeof *c) : NULL;
        if (!c) {
            close(fd);
            continue;
        }
        int on = 1;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        c->fd = fd;
        struct epoll_event e = {.events = EPOLLIN, .data.ptr = c};
        if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &e) < 0) die("epoll_ctl");
        stats.connections++;
    }
}

/* Start ----------------------------------------------------------------------------------------------- */

static void on_signal(int number) {
    (void)number;
    stopping = 1;
}

static void listen_on_loopback(uint16_t port) {
    struct sockaddr_in where = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof where;
    int on = 1;
    where.sin_port = htons(port);
    listen_fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    /* One that takes the place of another, killed a moment ago, finds its connections still ending. */
    setsockopt(listen_fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (listen_fd < 0 || bind(listen_fd, (struct sockaddr *)&where, size) < 0) die("bind");
    if (listen(listen_fd, 16384) < 0) die("listen");
    getsockname(listen_fd, (struct sockaddr *)&where, &size);
    random_state = ntohs(where.sin_port);
    printf("listening %d\n", ntohs(where.sin_port));
    fflush(stdout);
}

int main(int argc, char **argv) {
    uint16_t port = 0;
    for (int i = 1; i + 1 < argc; i += 2) {
        if (!strcmp(argv[i], "--chunks")) chunks_per_stream = strtoull(argv[i + 1], NULL, 10);
        else if (!strcmp(argv[i], "--pace-us")) pace_ns = 1000 * strtoull(argv[i + 1], NULL, 10);
        else if (!strcmp(argv[i], "--first-us")) first_ns = 1000 * strtoull(argv[i + 1], NULL, 10);
        else if (!strcmp(argv[i], "--slow")) slow_per_mille = strtoull(argv[i + 1], NULL, 10);
        else if (!strcmp(argv[i], "--port")) port = (uint16_t)atoi(argv[i + 1]);
        else {
            fprintf(stderr, "usage: mock [--port P] [--chunks N] [--pace-us P] [--first-us F] [--slow S]\n");
            return 2;
        }
    }
    if (pace_ns < 1000) pace_ns = 1000;
    struct sigaction act = {.sa_handler = on_signal}; /* no SA_RESTART: epoll_wait returns */
    sigaction(SIGTERM, &act, NULL);
    sigaction(SIGINT, &act, NULL);
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    prepare_voices();
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    listen_on_loopback(port);
    struct epoll_event e = {.events = EPOLLIN, .data.ptr = &listen_fd};
    epoll_ctl(epoll_fd, EPOLL_CTL_ADD, listen_fd, &e);
    e.data.ptr = &timer_fd;
    epoll_ctl(epoll_fd, EPOLL_CTL_ADD, timer_fd, &e);

    struct epoll_event events[MAX_EVENTS];
    while (!stopping) {
        arm_timer();
        int n = epoll_wait(epoll_fd, events, MAX_EVENTS, -1);
        for (int i = 0; i < n; i++) {
            if (events[i].data.ptr == &listen_fd) {
                accept_all();
            } else if (events[i].data.ptr == &timer_fd) {
                uint64_t ticks;
                if (read(timer_fd, &ticks, sizeof ticks) > 0) run_due();
            } else {
                struct conn *c = events[i].data.ptr;
                if (c->fd >= 0 && (events[i].events & EPOLLOUT)) flush_out(c);
                if (c->fd >= 0 && (events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR))) readable(c);
            }
        }
        while (dead) {
            struct conn *c = dead;
            dead = c->next_dead;
            free(c);
        }
    }
    return 0;
}
