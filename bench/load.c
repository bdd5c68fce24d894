/* A load generator: HTTP/1.1 over epoll, one thread, to a loopback address only.
 *
 *   load MODE --port P --path PATH --body FILE [--host 127.0.0.1] [--header "name: value"]...
 *        [--connections C] [--seconds T] [--requests N] [--end-mark TEXT] [--error-mark TEXT]
 *        [--leave-after K] [--deadline S] [--progress FILE]
 *
 *   requests   C connections in a closed loop, for T seconds or N requests
 *   latency    the same with one connection
 *   streams    one streamed request on each of C connections; ends when all have ended. A stream without
 *              the end mark in its last bytes is an error.
 *   turns      like requests, but streamed. Without a first event it is an error; a stream that broke off
 *              later counts as told when it has an event that begins with the error mark, else as untold
 *   abort      like requests, each on a connection of its own that is closed after K events
 *
 * Nothing runs longer than the deadline (seconds, 60 unless told). One line of JSON on stdout, times in
 * microseconds. The progress file is mapped memory that another process may read while the load runs:
 * five uint64: opened, events, finished, errors, bytes.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { MAX_CONNS = 20000, MAX_HEAD = 8192, TAIL = 64, MAX_SAMPLES = 1 << 22, MAX_ERRORS = 1000 };
enum { CONNECTING_AT_ONCE = 256, EVENTS_AT_ONCE = 512 };
#define OTHER SIZE_MAX
enum mode { REQUESTS, STREAMS, TURNS, ABORT };
enum state { HEAD, LENGTH, CHUNK_SIZE, CHUNK_DATA, CHUNK_END, TRAILER, UNTIL_CLOSE };
enum verdict { MORE, COMPLETE, BROKEN };

struct conn {
    int fd;
    bool connecting, writing, close_after, after_newline, done;
    bool in_error, told; /* inside an error event; there was one */
    size_t matched;      /* bytes of the error mark at the start of this line; OTHER: it is none */
    enum state state;
    int status;
    size_t sent, head_size, line_size, tail_size;
    uint64_t left;   /* bytes of this body or chunk still to come */
    uint64_t begun;  /* ns */
    uint64_t events; /* of this answer */
    char line[32], tail[TAIL + 1], head[MAX_HEAD + 1];
};

struct progress {
    uint64_t opened, events, finished, errors, bytes;
};

static enum mode mode;
static const char *mode_name, *host = "127.0.0.1", *path = "/", *end_mark = "data: [DONE]";
static const char *error_mark = "data: {\"error\"";
static const char *body_file, *progress_file;
static char headers[4096], first_error[160];
static uint64_t want_conns = 1, want_requests, leave_after = 3;
static double want_seconds, deadline_seconds = 60;
static struct sockaddr_in target = {.sin_family = AF_INET};
static char *request;
static size_t request_size;
static struct conn *conns;
static struct progress own, *progress = &own;
static uint32_t *samples; /* tenths of a microsecond: whole answers, or first events */
static size_t sample_count;
static uint64_t issued, connecting, started_conns, done_conns, stop_ns, last_ns;
static uint64_t told, untold; /* streams that broke off after their first event */
static int epoll_fd;
static volatile sig_atomic_t stopping;

static void fail(const char *what) {
    fprintf(stderr, "load: %s\n", what);
    exit(2);
}

static uint64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000ull + (uint64_t)t.tv_nsec;
}

static void sample(uint64_t ns) {
    if (sample_count < MAX_SAMPLES) samples[sample_count++] = (uint32_t)(ns / 100);
}

/* One request after the other ------------------------------------------------------------------------- */

static void begin(struct conn *c);

static void hang_up(struct conn *c) {
    if (c->fd >= 0) close(c->fd);
    if (c->connecting) connecting--;
    c->fd = -1;
    c->connecting = c->writing = false;
}

static void retire(struct conn *c) {
    hang_up(c);
    c->done = true;
    done_conns++;
}

static void next(struct conn *c) {
    last_ns = now_ns();
    bool spent = stopping || (want_requests && issued >= want_requests) || (stop_ns && last_ns >= stop_ns);
    if (mode == STREAMS || spent || progress->errors > MAX_ERRORS) retire(c);
    else begin(c);
}

static void broken(struct conn *c, const char *why) {
    bool begun = mode == TURNS && c->events;
    if (begun && c->told) told++;
    else if (begun) untold++;
    else progress->errors++;
    if (!*first_error && !(begun && c->told)) {
        snprintf(first_error, sizeof first_error, "%s: %s", why, c->tail);
        for (char *p = first_error; *p; p++) {
            if (*p < ' ' || *p == '"' || *p == '\\') *p = '\'';
        }
    }
    hang_up(c);
    next(c);
}

static void watch(struct conn *c, bool writing) {
    if (c->writing == writing) return;
    c->writing = writing;
    struct epoll_event e = {.events = EPOLLIN | (writing ? EPOLLOUT : 0), .data.ptr = c};
    epoll_ctl(epoll_fd, EPOLL_CTL_MOD, c->fd, &e);
}

static void push(struct conn *c) {
    while (c->sent < request_size) {
        ssize_t n = send(c->fd, request + c->sent, request_size - c->sent, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) break; /* EAGAIN: EPOLLOUT comes; anything worse: recv tells */
        c->sent += (size_t)n;
    }
    watch(c, c->sent < request_size);
}

static void begin(struct conn *c) {
    c->state = HEAD;
    c->status = 0;
    c->sent = c->head_size = c->line_size = c->tail_size = 0;
    c->left = c->events = 0;
    c->close_after = c->after_newline = c->in_error = c->told = false;
    c->matched = 0;
    c->tail[0] = '\0';
    c->begun = now_ns();
    issued++;
    if (c->fd >= 0) {
        push(c);
        return;
    }
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (c->fd < 0) fail("no more sockets: raise `ulimit -n`");
    int on = 1;
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    c->writing = c->connecting = true;
    connecting++;
    struct epoll_event e = {.events = EPOLLIN | EPOLLOUT, .data.ptr = c};
    epoll_ctl(epoll_fd, EPOLL_CTL_ADD, c->fd, &e);
    connect(c->fd, (struct sockaddr *)&target, sizeof target); /* how it went: epoll says */
}

static void answered(struct conn *c) {
    char why[64];
    if (c->status != 200) {
        snprintf(why, sizeof why, "status %d", c->status);
        broken(c, why);
    } else if (mode == ABORT) {
        broken(c, "the stream ended before its client could leave");
    } else if (c->told) {
        broken(c, "an error event");
    } else if ((mode == STREAMS || mode == TURNS) && !strstr(c->tail, end_mark)) {
        broken(c, "a stream ended without its end mark");
    } else {
        if (mode == REQUESTS) sample(now_ns() - c->begun);
        progress->finished++;
        if (c->close_after) hang_up(c);
        next(c);
    }
}

/* Answers, from whatever pieces they come in ------------------------------------------------------------ */

static void keep_tail(struct conn *c, const char *data, size_t n) {
    if (n >= TAIL) {
        memcpy(c->tail, data + n - TAIL, TAIL);
        c->tail_size = TAIL;
    } else {
        size_t over = c->tail_size + n > TAIL ? c->tail_size + n - TAIL : 0;
        memmove(c->tail, c->tail + over, c->tail_size - over);
        memcpy(c->tail + c->tail_size - over, data, n);
        c->tail_size += n - over;
    }
    c->tail[c->tail_size] = '\0';
}

static void event_ended(struct conn *c) {
    if (c->in_error) {
        c->in_error = false;
        c->told = true;
        return;
    }
    progress->events++;
    if (!c->events++) {
        sample(now_ns() - c->begun);
        progress->opened++;
    }
}

static void compare(struct conn *c, char byte) {
    if (byte == '\n') {
        c->matched = 0;
    } else if (c->matched != OTHER) {
        c->matched = byte == error_mark[c->matched] ? c->matched + 1 : OTHER;
        if (c->matched != OTHER && !error_mark[c->matched]) {
            c->in_error = true;
            c->matched = OTHER;
        }
    }
}

static void payload(struct conn *c, const char *data, size_t n) {
    progress->bytes += n;
    keep_tail(c, data, n);
    if (mode == REQUESTS || c->status != 200) return;
    for (size_t i = 0; i < n; i++) {
        if (data[i] == '\r') continue;
        bool newline = data[i] == '\n';
        if (mode == TURNS) compare(c, data[i]);
        if (newline && c->after_newline) event_ended(c); /* an empty line ends an event */
        c->after_newline = newline;
    }
}

static enum verdict head_complete(struct conn *c) {
    c->head[c->head_size] = '\0';
    if (strncmp(c->head, "HTTP/1.", 7)) return BROKEN;
    c->status = atoi(c->head + 9);
    if (c->status / 100 == 1) {
        c->head_size = 0;
        return MORE;
    }
    const char *length = strcasestr(c->head, "\r\ncontent-length:");
    if (strcasestr(c->head, "\r\nconnection: close")) c->close_after = true;
    if (strcasestr(c->head, "\r\ntransfer-encoding: chunked")) {
        c->state = CHUNK_SIZE;
    } else if (length) {
        c->left = strtoull(length + 17, NULL, 10);
        c->state = LENGTH;
        if (!c->left) return COMPLETE;
    } else {
        c->state = UNTIL_CLOSE;
    }
    return MORE;
}

/* Reads one line of the chunked framing, a byte at a time: at most a few bytes each. */
static enum verdict framing(struct conn *c, char byte) {
    if (byte != '\n') {
        if (byte != '\r' && c->line_size < sizeof c->line - 1) c->line[c->line_size++] = byte;
        return MORE;
    }
    c->line[c->line_size] = '\0';
    size_t size = c->line_size;
    c->line_size = 0;
    if (c->state == TRAILER) return size ? MORE : COMPLETE;
    if (c->state == CHUNK_END) {
        c->state = CHUNK_SIZE;
        return size ? BROKEN : MORE;
    }
    char *stop;
    c->left = strtoull(c->line, &stop, 16);
    if (stop == c->line) return BROKEN;
    c->state = c->left ? CHUNK_DATA : TRAILER;
    return MORE;
}

static enum verdict feed(struct conn *c, const char *data, size_t n) {
    enum verdict verdict = MORE;
    for (size_t i = 0; i < n && verdict == MORE;) {
        if (c->state == HEAD) {
            if (c->head_size == MAX_HEAD) return BROKEN;
            c->head[c->head_size++] = data[i++];
            bool ended = c->head_size >= 4 && !memcmp(c->head + c->head_size - 4, "\r\n\r\n", 4);
            if (ended) verdict = head_complete(c);
        } else if (c->state == UNTIL_CLOSE) {
            payload(c, data + i, n - i);
            i = n;
        } else if (c->state == LENGTH || c->state == CHUNK_DATA) {
            size_t part = n - i < c->left ? n - i : (size_t)c->left;
            payload(c, data + i, part);
            i += part;
            c->left -= part;
            if (!c->left && c->state == LENGTH) verdict = COMPLETE;
            else if (!c->left) c->state = CHUNK_END;
        } else {
            verdict = framing(c, data[i++]);
        }
    }
    return verdict;
}

static void readable(struct conn *c) {
    static char data[256 << 10];
    ssize_t n = recv(c->fd, data, sizeof data, 0);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (n < 0) {
        broken(c, strerror(errno));
    } else if (!n && c->state == UNTIL_CLOSE) {
        c->close_after = true;
        answered(c);
    } else if (!n) {
        broken(c, c->status ? "closed in the middle of an answer" : "closed without an answer");
    } else {
        enum verdict verdict = feed(c, data, (size_t)n);
        if (verdict == COMPLETE) {
            answered(c);
        } else if (verdict == BROKEN) {
            broken(c, "not HTTP/1.1");
        } else if (mode == ABORT && c->events >= leave_after) {
            progress->finished++;
            hang_up(c);
            next(c);
        }
    }
}

/* Start and end --------------------------------------------------------------------------------------- */

static void on_signal(int number) {
    (void)number;
    stopping = 1;
}

static void read_options(int argc, char **argv) {
    enum { PORT = 1, PATH, BODY, HOST, HEADER, CONNS, SECONDS, COUNT, MARK, FAULT, LEAVE, DEADLINE, PROGRESS };
    static const struct option options[] = {
        {"port", 1, 0, PORT}, {"path", 1, 0, PATH}, {"body", 1, 0, BODY}, {"host", 1, 0, HOST},
        {"header", 1, 0, HEADER}, {"connections", 1, 0, CONNS}, {"seconds", 1, 0, SECONDS},
        {"requests", 1, 0, COUNT}, {"end-mark", 1, 0, MARK}, {"error-mark", 1, 0, FAULT},
        {"leave-after", 1, 0, LEAVE}, {"deadline", 1, 0, DEADLINE}, {"progress", 1, 0, PROGRESS}, {0, 0, 0, 0}};
    for (int option; (option = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        switch (option) {
        case PORT: target.sin_port = htons((uint16_t)atoi(optarg)); break;
        case PATH: path = optarg; break;
        case BODY: body_file = optarg; break;
        case HOST: host = optarg; break;
        case HEADER:
            if (strlen(headers) + strlen(optarg) + 3 > sizeof headers) fail("too many headers");
            strcat(strcat(headers, optarg), "\r\n");
            break;
        case CONNS: want_conns = strtoull(optarg, NULL, 10); break;
        case SECONDS: want_seconds = atof(optarg); break;
        case COUNT: want_requests = strtoull(optarg, NULL, 10); break;
        case MARK: end_mark = optarg; break;
        case FAULT: error_mark = optarg; break;
        case LEAVE: leave_after = strtoull(optarg, NULL, 10); break;
        case DEADLINE: deadline_seconds = atof(optarg); break;
        case PROGRESS: progress_file = optarg; break;
        default: exit(2);
        }
    }
    mode_name = optind < argc ? argv[optind] : "";
    if (!strcmp(mode_name, "streams")) mode = STREAMS;
    else if (!strcmp(mode_name, "turns")) mode = TURNS;
    else if (!strcmp(mode_name, "abort")) mode = ABORT;
    else if (!strcmp(mode_name, "latency")) want_conns = 1;
    else if (strcmp(mode_name, "requests")) fail("the mode is one of requests, latency, streams, turns, abort");
    if (inet_pton(AF_INET, host, &target.sin_addr) != 1 || ntohl(target.sin_addr.s_addr) >> 24 != 127) {
        fail("the target must be a loopback address, 127.x.x.x");
    }
    if (!want_conns || want_conns > MAX_CONNS) fail("1 to 20000 connections");
    if (mode != STREAMS && !want_requests && want_seconds <= 0) fail("--seconds or --requests is needed");
}

static void write_request(void) {
    FILE *file = body_file ? fopen(body_file, "rb") : NULL;
    if (!file) fail("--body names a file that can be read");
    fseek(file, 0, SEEK_END);
    size_t size = (size_t)ftell(file);
    rewind(file);
    request = malloc(size + sizeof headers + 1024);
    int n = !request ? -1 : snprintf(request, sizeof headers + 1024,
        "POST %s HTTP/1.1\r\nhost: %s:%d\r\ncontent-type: application/json\r\ncontent-length: %zu\r\n%s\r\n",
        path, host, ntohs(target.sin_port), size, headers);
    if (n < 0 || (size_t)n >= sizeof headers + 1024) fail("the request head is too long");
    if (fread(request + n, 1, size, file) != size) fail("the body can't be read");
    fclose(file);
    request_size = (size_t)n + size;
}

static void map_progress(void) {
    if (!progress_file) return;
    int fd = open(progress_file, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0 || ftruncate(fd, sizeof own) < 0) fail("the progress file can't be written");
    progress = mmap(NULL, sizeof own, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (progress == MAP_FAILED) fail("the progress file can't be mapped");
    close(fd);
    memset(progress, 0, sizeof own);
}

static int ascending(const void *a, const void *b) {
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return x < y ? -1 : x > y;
}

static double quantile(double q) {
    return sample_count ? samples[(size_t)(q * (double)(sample_count - 1) + 0.5)] / 10.0 : 0;
}

static void report(uint64_t started) {
    for (uint64_t i = 0; i < want_conns; i++) {
        if (conns[i].done) continue;
        progress->errors++;
        if (!*first_error) strcpy(first_error, "not finished by the deadline");
    }
    qsort(samples, sample_count, sizeof *samples, ascending);
    printf("{\"mode\":\"%s\",\"connections\":%llu,\"finished\":%llu,\"errors\":%llu,\"error\":\"%s\","
           "\"told\":%llu,\"untold\":%llu,\"seconds\":%.6f,\"opened\":%llu,\"events\":%llu,\"bytes\":%llu,"
           "\"latency_us\":{\"p50\":%.1f,\"p90\":%.1f,\"p99\":%.1f,\"max\":%.1f}}\n",
           mode_name, (unsigned long long)want_conns, (unsigned long long)progress->finished,
           (unsigned long long)progress->errors, first_error, (unsigned long long)told,
           (unsigned long long)untold, (double)(last_ns - started) / 1e9,
           (unsigned long long)progress->opened, (unsigned long long)progress->events,
           (unsigned long long)progress->bytes, quantile(.5), quantile(.9), quantile(.99), quantile(1));
}

static void handle(struct conn *c, uint32_t events) {
    if (c->fd < 0) return;
    if (c->connecting) {
        int error = 0;
        socklen_t size = sizeof error;
        getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &size);
        c->connecting = false;
        connecting--;
        if (error) {
            broken(c, strerror(error));
            return;
        }
    }
    if (events & EPOLLOUT) push(c);
    if (events & (EPOLLIN | EPOLLHUP | EPOLLERR)) readable(c);
}

int main(int argc, char **argv) {
    read_options(argc, argv);
    struct sigaction act = {.sa_handler = on_signal};
    sigaction(SIGTERM, &act, NULL);
    sigaction(SIGINT, &act, NULL);
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    write_request();
    map_progress();
    conns = calloc(want_conns, sizeof *conns);
    samples = calloc(MAX_SAMPLES, sizeof *samples);
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (!conns || !samples || epoll_fd < 0) fail("out of memory");

    uint64_t started = last_ns = now_ns(), deadline = started + (uint64_t)(deadline_seconds * 1e9);
    if (want_seconds > 0) stop_ns = started + (uint64_t)(want_seconds * 1e9);
    struct epoll_event events[EVENTS_AT_ONCE];
    while (done_conns < want_conns && !stopping && now_ns() < deadline) {
        while (started_conns < want_conns && connecting < CONNECTING_AT_ONCE) {
            conns[started_conns].fd = -1;
            begin(&conns[started_conns++]);
        }
        int n = epoll_wait(epoll_fd, events, EVENTS_AT_ONCE, 100);
        for (int i = 0; i < n; i++) handle(events[i].data.ptr, events[i].events);
    }
    report(started);
    return 0;
}
