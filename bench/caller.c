/* A load client for benchmarks: makes gRPC calls over plain HTTP/2 in a closed loop, in one thread, at a few
 * microseconds a call, so that what is measured is the server. It speaks as much HTTP/2 (RFC 9113) and HPACK
 * (RFC 7541) as such calls need, and checks the grpc-status of every one.
 *
 *   caller --port P --path /package.Service/Method --message FILE --callers N --connections N
 *          --calls N --seconds S --token TEXT
 *
 * --message holds the serialized request. --token is what the first token of an answer contains. A header
 * "authorization" is sent when BENCH_AUTHORIZATION is set; of several lines, the connections take
 * one each, in turns. Each caller first makes one call that does not count; then the program writes "ready", waits
 * for a line on stdin, runs until the calls are made or the time is up, and writes one line of JSON: times in
 * microseconds.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
    MAX_CALLERS = 256, MAX_REQUEST = 1 << 15, READ_SIZE = 1 << 17, MAX_FRAME = 16384, STREAM_WINDOW = 1 << 24,
    HEAD = 9, MAX_INDEXED = 128, MAX_NAME = 64, MAX_VALUE = 512, GRACE_SECONDS = 30
};
enum { DATA = 0, HEADERS = 1, RST_STREAM = 3, SETTINGS = 4, PING = 6, GOAWAY = 7, WINDOW_UPDATE = 8, CONTINUATION = 9 };
enum { END_STREAM = 1, ACK = 1, END_HEADERS = 4, PADDED = 8, PRIORITY = 32 };

typedef struct {
    char name[MAX_NAME], value[MAX_VALUE];
    size_t size; /* as HPACK counts it */
} field;

/* The dynamic table of one direction: a ring, the newest entry last. */
typedef struct {
    field entries[MAX_INDEXED];
    int first, count;
    size_t size, limit;
} table;

struct connection;

typedef struct {
    struct connection *connection;
    uint32_t stream; /* 0 when no call is under way */
    int64_t start, first_message, first_token;
    uint32_t need;      /* bytes missing of the current message */
    uint8_t prefix[5];
    int prefix_length;
    int messages;
    char tail[64]; /* end of the DATA before, so that a token cut in two is found */
    size_t tail_length;
    int status; /* grpc-status, -1 until known */
    char error[MAX_VALUE];
    bool waiting; /* for room in the connection's window */
} caller;

typedef struct connection {
    int fd;
    uint32_t next_stream;
    bool greeted; /* the server holds our headers in its table */
    const char *authorization;
    uint8_t *in;
    size_t in_length;
    uint8_t out[1 << 18];
    size_t out_length;
    int64_t send_window;
    int64_t unacknowledged;
    table fields;
    uint8_t block[1 << 16]; /* a header block, gathered over CONTINUATION frames */
    size_t block_length;
    caller *callers[MAX_CALLERS];
    int caller_count;
} connection;

static struct {
    int port, callers, connections;
    long calls;
    double seconds;
    const char *path, *message, *token;
    const char *authorizations[MAX_CALLERS];
    int authorization_count;
} options = {.callers = 1, .connections = 1, .calls = 1000, .seconds = 10, .token = ""};

static uint8_t message[MAX_REQUEST];
static size_t message_length, token_length;
static caller callers[MAX_CALLERS];
static connection *connections;
static int epoll_fd;

static bool measuring;
static long started, finished, failed, messages_total, under_way;
static int64_t deadline, bytes_total;
static char first_error[MAX_VALUE];
/* One value a finished call. */
static uint32_t *total_times, *message_times, *token_times;

static void fail(const char *what) {
    fprintf(stderr, "caller: %s\n", what);
    exit(1);
}

static int64_t now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static uint32_t read_u32(const uint8_t *p) {
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static void put_u32(uint8_t *p, uint32_t value) {
    p[0] = (uint8_t)(value >> 24), p[1] = (uint8_t)(value >> 16), p[2] = (uint8_t)(value >> 8), p[3] = (uint8_t)value;
}

/* --- Sending ----------------------------------------------------------------------------------------------- */

static void put(connection *c, const void *data, size_t length) {
    if (c->out_length + length > sizeof c->out) fail("the server does not read");
    memcpy(c->out + c->out_length, data, length);
    c->out_length += length;
}

static void put_frame(connection *c, uint8_t type, uint8_t flags, uint32_t stream, const void *payload, size_t length) {
    uint8_t head[HEAD] = {(uint8_t)(length >> 16), (uint8_t)(length >> 8), (uint8_t)length, type, flags};
    put_u32(head + 5, stream);
    put(c, head, HEAD);
    put(c, payload, length);
}

static void flush(connection *c) {
    while (c->out_length) {
        ssize_t n = send(c->fd, c->out, c->out_length, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0 && errno == EAGAIN) return; /* the loop comes back */
        if (n < 0) fail("the server closed the connection");
        c->out_length -= (size_t)n;
        memmove(c->out, c->out + n, c->out_length);
    }
}

static size_t put_text(uint8_t *to, const char *text) {
    size_t length = strlen(text);
    if (length > 126) fail("header too long");
    to[0] = (uint8_t)length;
    memcpy(to + 1, text, length);
    return length + 1;
}

/* The request's header block. As real clients do, the first one on a connection teaches the server's table. */
static size_t render_headers(connection *c, uint8_t *to) {
    char authority[32];
    snprintf(authority, sizeof authority, "127.0.0.1:%d", options.port);
    /* Names are of the static table where `index` is not 0. */
    const struct {
        uint8_t index;
        const char *name, *value;
    } taught[] = {
        {4, NULL, options.path}, {1, NULL, authority}, {0, "te", "trailers"}, {31, NULL, "application/grpc"},
        {58, NULL, "grpc-bench/1"}, {0, "grpc-accept-encoding", "identity, deflate, gzip"},
        {0, "grpc-timeout", "60S"}, {23, NULL, c->authorization},
    };
    int count = c->authorization ? 8 : 7;
    size_t length = 0;
    to[length++] = 0x83; /* :method POST */
    to[length++] = 0x86; /* :scheme http */
    for (int i = 0; i < count; i++) {
        if (c->greeted) {
            to[length++] = (uint8_t)(0x80 | (62 + count - 1 - i));
            continue;
        }
        to[length++] = (uint8_t)(0x40 | taught[i].index);
        if (!taught[i].index) length += put_text(to + length, taught[i].name);
        length += put_text(to + length, taught[i].value);
    }
    c->greeted = true;
    return length;
}

static void start_call(caller *k) {
    connection *c = k->connection;
    size_t length = message_length + 5;
    if (c->send_window < (int64_t)length) {
        k->waiting = true;
        return;
    }
    uint8_t headers[1024], body[MAX_REQUEST + 5] = {0};
    k->waiting = false;
    k->stream = c->next_stream;
    c->next_stream += 2;
    k->first_message = k->first_token = 0;
    k->need = 0;
    k->prefix_length = k->messages = 0;
    k->tail_length = 0;
    k->status = -1;
    k->error[0] = 0;
    put_u32(body + 1, (uint32_t)message_length);
    memcpy(body + 5, message, message_length);
    c->send_window -= (int64_t)length;
    started++;
    under_way++;
    k->start = now();
    put_frame(c, HEADERS, END_HEADERS, k->stream, headers, render_headers(c, headers));
    for (size_t sent = 0; sent < length;) {
        size_t part = length - sent < MAX_FRAME ? length - sent : MAX_FRAME;
        put_frame(c, DATA, sent + part == length ? END_STREAM : 0, k->stream, body + sent, part);
        sent += part;
    }
    flush(c);
}

static void next_call(caller *k) {
    if (measuring && started < options.calls && now() < deadline) start_call(k);
}

/* --- Header fields of answers (HPACK) ---------------------------------------------------------------------- */

static uint64_t read_integer(const uint8_t **p, const uint8_t *end, int bits) {
    uint64_t mask = (1u << bits) - 1, value;
    if (*p >= end) fail("header block too short");
    value = *(*p)++ & mask;
    if (value < mask) return value;
    for (int shift = 0; *p < end && shift < 56; shift += 7) {
        uint8_t byte = *(*p)++;
        value += (uint64_t)(byte & 127) << shift;
        if (!(byte & 128)) return value;
    }
    fail("bad integer in a header block");
    return 0;
}

/* Texts in Huffman code stay unread: the status, which alone is looked at, is shorter plain. */
static size_t read_text(const uint8_t **p, const uint8_t *end, char *to, size_t room) {
    if (*p >= end) fail("header block too short");
    bool huffman = **p & 128;
    size_t length = read_integer(p, end, 7);
    if (length > (size_t)(end - *p)) fail("header block too short");
    size_t kept = length < room ? length : room - 1;
    if (huffman) kept = (size_t)snprintf(to, room, "(in Huffman code)");
    else memcpy(to, *p, kept);
    to[kept < room ? kept : room - 1] = 0;
    *p += length;
    return length;
}

static void evict(table *t) {
    while (t->count && t->size > t->limit) {
        t->size -= t->entries[t->first].size;
        t->first = (t->first + 1) % MAX_INDEXED;
        t->count--;
    }
}

/* Nothing looked at here is in the static table, but the lengths of its names count for the dynamic one. */
static const uint8_t static_name_lengths[62] = {
    0,  10, 7,  7,  5,  5,  7, 7, 7, 7, 7, 7, 7,  7, 7,  14, 15, 15, 13, 6, 27, 3,  5,  13, 13, 19, 16, 16, 14, 16, 13,
    12, 6,  4,  4,  6,  7,  4, 4, 8, 17, 13, 8, 19, 13, 4, 8, 12, 18, 19, 5, 7,  7,  11, 6,  10, 25, 17, 10, 4,  3,  16,
};

static void look_up(table *t, uint64_t index, field *to) {
    if (index == 0) fail("header index 0");
    if (index <= 61) {
        snprintf(to->name, sizeof to->name, "(static %d)", (int)index);
        return;
    }
    if (index - 62 >= (uint64_t)t->count) fail("header index out of range");
    *to = t->entries[(t->first + t->count - 1 - (int)(index - 62)) % MAX_INDEXED];
}

static void read_headers(connection *c, caller *k) {
    const uint8_t *p = c->block, *end = c->block + c->block_length;
    table *t = &c->fields;
    while (p < end) {
        field f = {0};
        if (*p & 0x80) {
            look_up(t, read_integer(&p, end, 7), &f);
        } else if ((*p & 0xe0) == 0x20) {
            t->limit = read_integer(&p, end, 5);
            evict(t);
            continue;
        } else {
            bool keep = *p & 0x40;
            uint64_t index = read_integer(&p, end, keep ? 6 : 4);
            size_t name_length;
            if (index) {
                look_up(t, index, &f);
                name_length = index <= 61 ? static_name_lengths[index] : strlen(f.name);
            } else {
                name_length = read_text(&p, end, f.name, sizeof f.name);
                if (name_length >= sizeof f.name) fail("header name too long");
            }
            size_t value_length = read_text(&p, end, f.value, sizeof f.value);
            f.size = name_length + value_length + 32;
            if (keep) {
                if (t->count == MAX_INDEXED) fail("too many indexed headers");
                t->entries[(t->first + t->count++) % MAX_INDEXED] = f;
                t->size += f.size;
                evict(t);
            }
        }
        if (!k) continue;
        if (!strcmp(f.name, "grpc-status")) k->status = atoi(f.value);
        if (!strcmp(f.name, "grpc-message")) snprintf(k->error, sizeof k->error, "%s", f.value);
    }
    c->block_length = 0;
}

/* --- Answers ----------------------------------------------------------------------------------------------- */

static caller *find_caller(connection *c, uint32_t stream) {
    for (int i = 0; i < c->caller_count; i++)
        if (c->callers[i]->stream == stream) return c->callers[i];
    return NULL;
}

static void end_call(caller *k, int64_t time) {
    under_way--;
    bool good = k->status == 0 && k->messages > 0 && !k->need && !k->prefix_length && (!token_length || k->first_token);
    if (!good) {
        failed++;
        if (!first_error[0])
            snprintf(first_error, sizeof first_error, "grpc-status %d, %d messages: %.300s", k->status, k->messages, k->error);
    } else if (measuring) {
        total_times[finished] = (uint32_t)((time - k->start) / 1000);
        message_times[finished] = (uint32_t)((k->first_message - k->start) / 1000);
        token_times[finished] = (uint32_t)(((k->first_token ? k->first_token : time) - k->start) / 1000);
        messages_total += k->messages;
        finished++;
    }
    k->stream = 0;
    next_call(k);
}

static void take_data(caller *k, const uint8_t *data, size_t length, int64_t time) {
    bytes_total += (int64_t)length;
    if (token_length && !k->first_token) {
        char seam[128];
        size_t head = length < sizeof k->tail ? length : sizeof k->tail;
        memcpy(seam, k->tail, k->tail_length);
        memcpy(seam + k->tail_length, data, head);
        if (memmem(data, length, options.token, token_length) ||
            memmem(seam, k->tail_length + head, options.token, token_length))
            k->first_token = time;
        const char *end = length < sizeof k->tail ? seam + k->tail_length + head : (const char *)data + length;
        size_t kept = length < sizeof k->tail ? k->tail_length + head : length;
        if (kept > sizeof k->tail) kept = sizeof k->tail;
        memcpy(k->tail, end - kept, kept);
        k->tail_length = kept;
    }
    while (length) {
        if (k->need) {
            size_t n = length < k->need ? length : k->need;
            k->need -= (uint32_t)n;
            data += n, length -= n;
            if (!k->need) k->messages++;
            continue;
        }
        k->prefix[k->prefix_length++] = *data++;
        length--;
        if (k->prefix_length < 5) continue;
        if (k->prefix[0]) fail("a compressed message");
        k->need = read_u32(k->prefix + 1);
        k->prefix_length = 0;
        if (!k->first_message) k->first_message = time;
        if (!k->need) k->messages++; /* an empty message */
    }
}

static void take_frame(connection *c, uint8_t type, uint8_t flags, uint32_t stream, const uint8_t *payload, size_t length) {
    caller *k = stream ? find_caller(c, stream) : NULL;
    size_t whole = length;
    if ((type == DATA || type == HEADERS) && flags & PADDED) {
        if (!length || payload[0] >= length) fail("bad padding");
        length -= 1u + payload[0], payload++;
    }
    switch (type) {
    case DATA:
        c->unacknowledged += (int64_t)whole;
        if (c->unacknowledged > 1 << 28) {
            uint8_t update[4];
            put_u32(update, (uint32_t)c->unacknowledged);
            put_frame(c, WINDOW_UPDATE, 0, 0, update, 4);
            c->unacknowledged = 0;
        }
        if (k) take_data(k, payload, length, now());
        break;
    case HEADERS:
        if (flags & PRIORITY) payload += 5, length -= 5;
        /* fall through */
    case CONTINUATION:
        if (c->block_length + length > sizeof c->block) fail("headers too long");
        memcpy(c->block + c->block_length, payload, length);
        c->block_length += length;
        if (flags & END_HEADERS) read_headers(c, k);
        break;
    case RST_STREAM:
        /* NO_ERROR and the like after the end are no failure; before it the status is missing and tells. */
        if (k) {
            snprintf(k->error, sizeof k->error, "reset by the server");
            end_call(k, now());
        }
        return;
    case SETTINGS:
        if (!(flags & ACK)) put_frame(c, SETTINGS, ACK, 0, NULL, 0);
        break;
    case PING:
        if (!(flags & ACK)) put_frame(c, PING, ACK, 0, payload, 8);
        break;
    case GOAWAY:
        fail("the server says GOAWAY");
        break;
    case WINDOW_UPDATE:
        if (stream) break;
        c->send_window += read_u32(payload) & 0x7fffffff;
        for (int i = 0; i < c->caller_count; i++)
            if (c->callers[i]->waiting) start_call(c->callers[i]);
        break;
    default:
        break; /* unknown frames are to be ignored */
    }
    if (k && (type == DATA || type == HEADERS) && flags & END_STREAM) end_call(k, now());
}

static void on_readable(connection *c) {
    ssize_t n = recv(c->fd, c->in + c->in_length, READ_SIZE - c->in_length, MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (n <= 0) fail("the server closed the connection");
    c->in_length += (size_t)n;
    size_t at = 0;
    while (c->in_length - at >= HEAD) {
        const uint8_t *head = c->in + at;
        size_t length = (size_t)head[0] << 16 | (size_t)head[1] << 8 | head[2];
        if (length > MAX_FRAME) fail("frame too long");
        if (c->in_length - at < HEAD + length) break;
        take_frame(c, head[3], head[4], read_u32(head + 5) & 0x7fffffff, head + HEAD, length);
        at += HEAD + length;
    }
    c->in_length -= at;
    memmove(c->in, c->in + at, c->in_length);
    flush(c);
}

static void open_connection(connection *c) {
    static const uint8_t settings[] = {
        0, 2, 0, 0, 0, 0,                             /* no push */
        0, 4, STREAM_WINDOW >> 24, (STREAM_WINDOW >> 16) & 255, 0, 0, /* a stream's window */
    };
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons((uint16_t)options.port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int one = 1;
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (c->fd < 0 || connect(c->fd, (struct sockaddr *)&address, sizeof address)) fail("cannot connect");
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    c->next_stream = 1;
    c->send_window = 65535;
    c->fields.limit = 4096;
    c->in = malloc(READ_SIZE);
    if (!c->in) fail("no memory");
    uint8_t window[4];
    put_u32(window, 0x7fffffff - 65535);
    put(c, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 24);
    put_frame(c, SETTINGS, 0, 0, settings, sizeof settings);
    put_frame(c, WINDOW_UPDATE, 0, 0, window, 4);
    flush(c);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};
    if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, c->fd, &event)) fail("epoll_ctl");
}

/* Handles answers until no call is under way. */
static void run(void) {
    struct epoll_event events[64];
    while (under_way) {
        int count = epoll_wait(epoll_fd, events, 64, 1000);
        if (count < 0 && errno != EINTR) fail("epoll_wait");
        for (int i = 0; i < count; i++) on_readable(events[i].data.ptr);
        for (int i = 0; i < options.connections; i++) flush(&connections[i]);
        if (now() > deadline + (int64_t)GRACE_SECONDS * 1000000000) fail("calls hang");
    }
}

/* --- Report ------------------------------------------------------------------------------------------------ */

static int compare(const void *a, const void *b) {
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

static void print_times(const char *name, uint32_t *times) {
    static const int percents[] = {50, 95, 99};
    qsort(times, (size_t)finished, sizeof *times, compare);
    printf(",\"%s\":{", name);
    for (int i = 0; i < 3; i++) {
        long at = finished * percents[i] / 100;
        printf("%s\"p%d\":%u", i ? "," : "", percents[i], finished ? times[at < finished ? at : finished - 1] : 0);
    }
    printf("}");
}

static void print_json_text(const char *text) {
    putchar('"');
    for (; *text; text++) {
        if (*text == '"' || *text == '\\') putchar('\\');
        if ((unsigned char)*text >= 32) putchar(*text);
    }
    putchar('"');
}

static void report(int64_t elapsed) {
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    int64_t cpu = (used.ru_utime.tv_sec + used.ru_stime.tv_sec) * 1000000LL + used.ru_utime.tv_usec + used.ru_stime.tv_usec;
    printf("{\"calls\":%ld,\"failed\":%ld,\"seconds\":%.6f,\"messages\":%ld,\"bytes\":%lld,\"own_cpu_us\":%lld", finished,
           failed, (double)elapsed / 1e9, messages_total, (long long)bytes_total, (long long)cpu);
    print_times("total_us", total_times);
    print_times("first_message_us", message_times);
    print_times("first_token_us", token_times);
    printf(",\"first_error\":");
    print_json_text(first_error);
    printf("}\n");
    fflush(stdout);
}

/* --- Start ------------------------------------------------------------------------------------------------- */

static void read_options(int count, char **arguments) {
    static const struct option known[] = {
        {"port", 1, NULL, 'p'}, {"path", 1, NULL, 'u'}, {"message", 1, NULL, 'm'}, {"callers", 1, NULL, 'n'},
        {"connections", 1, NULL, 'c'}, {"calls", 1, NULL, 'k'}, {"seconds", 1, NULL, 's'}, {"token", 1, NULL, 't'}, {0}};
    for (int o; (o = getopt_long(count, arguments, "", known, NULL)) != -1;) switch (o) {
        case 'p': options.port = atoi(optarg); break;
        case 'u': options.path = optarg; break;
        case 'm': options.message = optarg; break;
        case 'n': options.callers = atoi(optarg); break;
        case 'c': options.connections = atoi(optarg); break;
        case 'k': options.calls = atol(optarg); break;
        case 's': options.seconds = atof(optarg); break;
        case 't': options.token = optarg; break;
        default: exit(2);
        }
    char *authorizations = getenv("BENCH_AUTHORIZATION");
    for (char *line = authorizations ? strtok(authorizations, "\n") : NULL; line; line = strtok(NULL, "\n")) {
        if (options.authorization_count == MAX_CALLERS) fail("too many authorizations");
        options.authorizations[options.authorization_count++] = line;
    }
    if (!options.port || !options.path || !options.message) fail("--port, --path and --message are needed");
    if (options.callers < 1 || options.callers > MAX_CALLERS || options.connections < 1) fail("bad number of callers");
    if (options.calls < 1 || options.calls > 10000000 || options.seconds <= 0 || options.seconds > 3600) fail("bad bounds");
    if (options.connections > options.callers) options.connections = options.callers;
    token_length = strlen(options.token);
    if (token_length > sizeof callers[0].tail) fail("token too long");
    FILE *file = fopen(options.message, "rb");
    if (!file) fail("cannot read the message");
    message_length = fread(message, 1, sizeof message, file);
    if (message_length == sizeof message) fail("message too long");
    fclose(file);
}

int main(int count, char **arguments) {
    read_options(count, arguments);
    size_t room = (size_t)options.calls + MAX_CALLERS;
    connections = calloc((size_t)options.connections, sizeof *connections);
    total_times = malloc(room * sizeof *total_times);
    message_times = malloc(room * sizeof *message_times);
    token_times = malloc(room * sizeof *token_times);
    if (!connections || !total_times || !message_times || !token_times) fail("no memory");
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    for (int i = 0; i < options.connections; i++) {
        if (options.authorization_count) {
            connections[i].authorization = options.authorizations[i % options.authorization_count];
        }
        open_connection(&connections[i]);
    }
    for (int i = 0; i < options.callers; i++) {
        connection *c = &connections[i % options.connections];
        callers[i].connection = c;
        c->callers[c->caller_count++] = &callers[i];
    }

    deadline = now();
    for (int i = 0; i < options.callers; i++) start_call(&callers[i]);
    run();
    puts("ready");
    fflush(stdout);
    if (getchar() == EOF) return 0;

    started = messages_total = 0;
    bytes_total = 0;
    measuring = true;
    int64_t begin = now();
    deadline = begin + (int64_t)(options.seconds * 1e9);
    for (int i = 0; i < options.callers && started < options.calls; i++) start_call(&callers[i]);
    run();
    report(now() - begin);
    return 0;
}
