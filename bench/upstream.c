/* A provider for benchmarks: answers OpenAI chat completions from memory, cheaply enough not to be the
 * bottleneck. HTTP/1.1 with keep-alive, one thread, epoll. The name of the model says how it answers a stream:
 *
 *   bench-burst-64       64 deltas in one write
 *   bench-paced-64-5ms   64 deltas, one every 5 ms, the first at once
 *
 * Any model answers a request without "stream": true with one fixed body. Listens on a free port of 127.0.0.1,
 * writes the port on a line of its own to stdout, and ends when its stdin ends.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

enum { MAX_CONNECTIONS = 1024, MAX_DELTAS = 1000, MAX_REQUEST = 1 << 20, MAX_EVENTS = 256 };

typedef struct {
    char *data;
    size_t length, capacity;
} buffer;

typedef struct {
    int fd;
    buffer in, out;
    size_t sent;        /* of out */
    bool want_write;    /* epoll watches for room in the socket */
    bool closing;       /* once out is sent */
    int deltas, next;   /* a paced stream: how many, and which comes next; deltas is 0 when none runs */
    int64_t interval, due;
    bool usage;
} connection;

static connection *connections[MAX_CONNECTIONS];
static int epoll_fd, timer_fd;
static int64_t armed; /* when the timer fires, 0 when it is off */

/* Each event of a stream as one HTTP chunk, made once. */
static buffer chunk_role, chunk_delta[MAX_DELTAS], chunk_finish, chunk_done;
static buffer unary_body;

static void die(const char *what) {
    perror(what);
    exit(1);
}

static int64_t now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static void reserve(buffer *b, size_t more) {
    if (b->length + more <= b->capacity) return;
    b->capacity = (b->length + more) * 2;
    b->data = realloc(b->data, b->capacity);
    if (!b->data) die("realloc");
}

static void append(buffer *b, const char *data, size_t length) {
    reserve(b, length);
    memcpy(b->data + b->length, data, length);
    b->length += length;
}

__attribute__((format(printf, 2, 3))) static void appendf(buffer *b, const char *format, ...) {
    char text[4096];
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    if (length < 0 || (size_t)length >= sizeof text) die("text too long");
    append(b, text, (size_t)length);
}

/* One server-sent event in one HTTP chunk. */
static void append_event(buffer *b, const char *json) {
    appendf(b, "%zx\r\ndata: %s\n\n\r\n", strlen(json) + 8, json);
}

#define CHUNK_HEAD                                                                                              \
    "{\"id\":\"chatcmpl-bench\",\"object\":\"chat.completion.chunk\",\"created\":1760000000,\"model\":\"bench\"," \
    "\"system_fingerprint\":\"fp_bench\","

static void prepare(void) {
    append_event(&chunk_role, CHUNK_HEAD "\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"},"
                                         "\"logprobs\":null,\"finish_reason\":null}]}");
    for (int i = 0; i < MAX_DELTAS; i++) {
        char json[512];
        snprintf(json, sizeof json,
                 CHUNK_HEAD "\"choices\":[{\"index\":0,\"delta\":{\"content\":\"word%c%c%c \"},\"logprobs\":null,"
                            "\"finish_reason\":null}]}",
                 'a' + i / 100, 'a' + i / 10 % 10, 'a' + i % 10);
        append_event(&chunk_delta[i], json);
    }
    append_event(&chunk_finish, CHUNK_HEAD "\"choices\":[{\"index\":0,\"delta\":{},\"logprobs\":null,"
                                           "\"finish_reason\":\"stop\"}]}");
    append_event(&chunk_done, "[DONE]");
    appendf(&chunk_done, "0\r\n\r\n");
    appendf(&unary_body,
            "{\"id\":\"chatcmpl-bench\",\"object\":\"chat.completion\",\"created\":1760000000,\"model\":\"bench\","
            "\"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":\"A lighthouse keeper counts "
            "ships by night and gulls by day; both sums are wrong by morning, and both are written down with great "
            "care.\",\"refusal\":null,\"annotations\":[]},\"logprobs\":null,\"finish_reason\":\"stop\"}],"
            "\"usage\":{\"prompt_tokens\":19,\"completion_tokens\":28,\"total_tokens\":47,"
            "\"prompt_tokens_details\":{\"cached_tokens\":0,\"audio_tokens\":0},\"completion_tokens_details\":"
            "{\"reasoning_tokens\":0,\"audio_tokens\":0,\"accepted_prediction_tokens\":0,"
            "\"rejected_prediction_tokens\":0}},\"service_tier\":\"default\",\"system_fingerprint\":\"fp_bench\"}");
}

static void append_end(connection *c) {
    append(&c->out, chunk_finish.data, chunk_finish.length);
    if (c->usage) {
        char json[512];
        snprintf(json, sizeof json,
                 CHUNK_HEAD "\"choices\":[],\"usage\":{\"prompt_tokens\":19,\"completion_tokens\":%d,"
                            "\"total_tokens\":%d,\"prompt_tokens_details\":{\"cached_tokens\":0},"
                            "\"completion_tokens_details\":{\"reasoning_tokens\":0}}}",
                 c->deltas, c->deltas + 19);
        append_event(&c->out, json);
    }
    append(&c->out, chunk_done.data, chunk_done.length);
    c->deltas = 0;
}

static void watch(connection *c, bool write) {
    if (c->want_write == write) return;
    struct epoll_event event = {.events = EPOLLIN | (write ? EPOLLOUT : 0), .data.ptr = c};
    if (epoll_ctl(epoll_fd, EPOLL_CTL_MOD, c->fd, &event)) die("epoll_ctl");
    c->want_write = write;
}

static void drop(connection *c) {
    connections[c->fd] = NULL;
    close(c->fd);
    free(c->in.data);
    free(c->out.data);
    free(c);
}

/* Sends what is there. False when the connection is gone. */
static bool flush(connection *c) {
    while (c->sent < c->out.length) {
        ssize_t n = send(c->fd, c->out.data + c->sent, c->out.length - c->sent, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0 && errno == EAGAIN) {
            watch(c, true);
            return true;
        }
        if (n < 0) return drop(c), false;
        c->sent += (size_t)n;
    }
    c->out.length = c->sent = 0;
    watch(c, false);
    if (c->closing && !c->deltas) return drop(c), false;
    return true;
}

static void arm(int64_t due) {
    struct itimerspec when = {.it_value = {.tv_sec = due / 1000000000, .tv_nsec = due % 1000000000}};
    if (timerfd_settime(timer_fd, TFD_TIMER_ABSTIME, &when, NULL)) die("timerfd_settime");
    armed = due;
}

/* Appends the deltas that are due. Each keeps its own time: a late one does not delay the next. */
static void advance(connection *c, int64_t time) {
    while (c->next < c->deltas && c->due <= time) {
        append(&c->out, chunk_delta[c->next].data, chunk_delta[c->next].length);
        c->next++;
        c->due += c->interval;
    }
    if (c->next == c->deltas) append_end(c);
}

static void on_timer(void) {
    uint64_t count;
    if (read(timer_fd, &count, sizeof count) < 0 && errno != EAGAIN) die("read timer");
    int64_t time = now(), earliest = 0;
    for (int fd = 0; fd < MAX_CONNECTIONS; fd++) {
        connection *c = connections[fd];
        if (!c || !c->deltas) continue;
        if (c->due <= time) {
            advance(c, time);
            if (!flush(c)) continue;
        }
        if (c->deltas && (!earliest || c->due < earliest)) earliest = c->due;
    }
    if (earliest) arm(earliest);
    else armed = 0;
}

static void answer_simple(connection *c, const char *status, const char *body, size_t length) {
    appendf(&c->out,
            "HTTP/1.1 %s\r\ncontent-type: application/json\r\ncontent-length: %zu\r\nx-request-id: req_bench\r\n"
            "openai-processing-ms: 1\r\nserver: bench\r\n\r\n",
            status, length);
    append(&c->out, body, length);
}

static void answer_refusal(connection *c, const char *status, const char *message) {
    char body[256];
    int length = snprintf(body, sizeof body, "{\"error\":{\"message\":\"%s\",\"type\":\"invalid_request_error\"}}", message);
    answer_simple(c, status, body, (size_t)length);
}

/* Where the value of a key begins, or NULL. The bodies are the benchmark's own, so no text holds a key. */
static const char *find_value(const char *body, size_t length, const char *key) {
    const char *at = memmem(body, length, key, strlen(key));
    if (!at) return NULL;
    for (at += strlen(key); at < body + length && (*at == ' ' || *at == ':'); at++) {}
    return at < body + length ? at : NULL;
}

static bool is_true(const char *body, size_t length, const char *key) {
    const char *value = find_value(body, length, key);
    return value && (size_t)(body + length - value) >= 4 && !memcmp(value, "true", 4);
}

static void answer_chat(connection *c, const char *body, size_t length) {
    char model[64] = "";
    const char *value = find_value(body, length, "\"model\"");
    if (!value || *value != '"') return answer_refusal(c, "400 Bad Request", "model is missing");
    for (size_t i = 0; i + 1 < sizeof model && value + 1 + i < body + length && value[1 + i] != '"'; i++)
        model[i] = value[1 + i];
    if (!is_true(body, length, "\"stream\"")) return answer_simple(c, "200 OK", unary_body.data, unary_body.length);

    int deltas = 0, milliseconds = 0;
    if (sscanf(model, "bench-burst-%d", &deltas) != 1 && sscanf(model, "bench-paced-%d-%dms", &deltas, &milliseconds) != 2)
        return answer_refusal(c, "404 Not Found", "no such model");
    if (deltas < 1 || deltas > MAX_DELTAS || milliseconds < 0)
        return answer_refusal(c, "404 Not Found", "no such model");

    appendf(&c->out, "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ncache-control: no-cache\r\n"
                     "transfer-encoding: chunked\r\nx-request-id: req_bench\r\nserver: bench\r\n\r\n");
    append(&c->out, chunk_role.data, chunk_role.length);
    c->deltas = deltas;
    c->next = 0;
    c->interval = (int64_t)milliseconds * 1000000;
    c->due = now();
    c->usage = is_true(body, length, "\"include_usage\"");
    advance(c, c->due);
    if (c->deltas && (!armed || c->due < armed)) arm(c->due);
}

static bool starts_with(const char *text, const char *start) { return !strncmp(text, start, strlen(start)); }

/* Answers one request if all of it is there. */
static bool take_request(connection *c) {
    char *end = memmem(c->in.data, c->in.length, "\r\n\r\n", 4);
    if (!end) return false;
    *end = 0; /* the head becomes a string */
    size_t head = (size_t)(end - c->in.data) + 4, length = 0;
    const char *field = strcasestr(c->in.data, "\r\ncontent-length:");
    if (field) length = strtoul(field + 17, NULL, 10);
    if (head + length > c->in.length) {
        *end = '\r';
        return false;
    }
    const char *body = c->in.data + head;
    if (strcasestr(c->in.data, "\r\nconnection: close")) c->closing = true;
    if (starts_with(c->in.data, "POST ") && strstr(c->in.data, "/chat/completions HTTP/1.1")) answer_chat(c, body, length);
    else if (starts_with(c->in.data, "GET ") && strstr(c->in.data, "/models HTTP/1.1")) {
        static const char models[] = "{\"object\":\"list\",\"data\":[{\"id\":\"bench-unary\",\"object\":\"model\"}]}";
        answer_simple(c, "200 OK", models, sizeof models - 1);
    } else answer_refusal(c, "404 Not Found", "no such path");
    c->in.length -= head + length;
    memmove(c->in.data, body + length, c->in.length);
    return true;
}

static void on_connection(connection *c, uint32_t events) {
    if (events & (EPOLLIN | EPOLLHUP | EPOLLERR)) {
        reserve(&c->in, 16384);
        ssize_t n = recv(c->fd, c->in.data + c->in.length, c->in.capacity - c->in.length, 0);
        if (n < 0 && errno != EAGAIN && errno != EINTR) return drop(c);
        if (n == 0) return drop(c);
        if (n > 0) c->in.length += (size_t)n;
        if (c->in.length > MAX_REQUEST) return drop(c);
    }
    while (!c->deltas && c->in.length && take_request(c)) {}
    flush(c);
}

static void on_accept(int listener) {
    for (;;) {
        int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC), one = 1;
        if (fd < 0) return;
        if (fd >= MAX_CONNECTIONS) {
            close(fd);
            continue;
        }
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        connection *c = calloc(1, sizeof *c);
        if (!c) die("calloc");
        c->fd = fd;
        connections[fd] = c;
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};
        if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event)) die("epoll_ctl");
    }
}

static int listen_anywhere(void) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    if (fd < 0 || bind(fd, (struct sockaddr *)&address, length) || listen(fd, 512)) die("listen");
    if (getsockname(fd, (struct sockaddr *)&address, &length)) die("getsockname");
    printf("%d\n", ntohs(address.sin_port));
    fflush(stdout);
    return fd;
}

int main(void) {
    prepare();
    signal(SIGPIPE, SIG_IGN);
    int listener = listen_anywhere();
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    /* Three marks for what is no connection. */
    static char on_listener, on_clock, on_stdin;
    struct epoll_event events[MAX_EVENTS] = {0};
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = &on_listener};
    if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, listener, &event)) die("epoll_ctl listener");
    event.data.ptr = &on_clock;
    if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, timer_fd, &event)) die("epoll_ctl timer");
    event.data.ptr = &on_stdin;
    if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, STDIN_FILENO, &event)) die("epoll_ctl stdin (a pipe is needed)");
    for (;;) {
        int count = epoll_wait(epoll_fd, events, MAX_EVENTS, -1);
        if (count < 0 && errno != EINTR) die("epoll_wait");
        bool timer = false;
        for (int i = 0; i < count; i++) {
            void *what = events[i].data.ptr;
            char byte;
            if (what == &on_listener) on_accept(listener);
            else if (what == &on_clock) timer = true;
            else if (what == &on_stdin) {
                if (read(STDIN_FILENO, &byte, 1) <= 0) return 0;
            } else on_connection(what, events[i].events);
        }
        /* Last: it may drop connections that an event above still points to. */
        if (timer) on_timer();
    }
}
