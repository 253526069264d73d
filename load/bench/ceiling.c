/* The physical limit beside which dp2p is measured: seal, loopback TCP, open, and no protocol.
 *
 *   ceiling versions
 *   ceiling stream   none|libsodium|openssl  RECORD_BYTES SECONDS
 *   ceiling pingpong MESSAGE_BYTES SECONDS
 *
 * Two processes (fork), one blocking connection on 127.0.0.1. Prints one JSON object.
 * The key lives for one run and protects zeros: not secret, not wiped.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sodium.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#ifdef HAVE_LIBCRYPTO
#include <openssl/crypto.h>
#include <openssl/evp.h>
#endif

enum {
    TAG_BYTES = 16,
    NONCE_BYTES = 12,
    MAX_RECORD = 16 << 20,
    MAX_SECONDS = 30,
    GRACE_S = 10,         /* past the measured time, before SIGALRM ends both sides */
    WARM_UP_ROUNDS = 200, /* round trips not counted */
    MAX_SAMPLES = 4 << 20,
};

static void die(const char *what) {
    fprintf(stderr, "ceiling: %s: %s\n", what, errno ? strerror(errno) : "failed");
    exit(1);
}

/* --- clocks -------------------------------------------------------------------------- */

static double wall_s(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static double cpu_s(void) {
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
           (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) * 1e-6;
}

/* What one side did; in memory shared by both processes, each writes its own. */
struct tally {
    uint64_t bytes;
    double seconds, cpu;
};

static void tally_start(struct tally *t) {
    *t = (struct tally){.seconds = -wall_s(), .cpu = -cpu_s()};
}

static void tally_stop(struct tally *t) {
    t->seconds += wall_s();
    t->cpu += cpu_s();
}

/* --- AEAD providers: ChaCha20-Poly1305 (RFC 8439), one key, nonce = record counter --- */

struct aead {
    uint8_t key[32];
    uint8_t nonce[NONCE_BYTES];
    void *ctx; /* provider's own, owned by the process that opened it */
};

struct provider {
    const char *name;
    size_t tag;
    int (*start)(struct aead *a, int sealing);
    int (*seal)(struct aead *a, uint8_t *out, const uint8_t *in, size_t len);
    int (*open)(struct aead *a, uint8_t *out, const uint8_t *in, size_t len);
};

static int none_start(struct aead *a, int sealing) {
    (void)a, (void)sealing;
    return 0;
}

static int libsodium_seal(struct aead *a, uint8_t *out, const uint8_t *in, size_t len) {
    return crypto_aead_chacha20poly1305_ietf_encrypt(out, NULL, in, len, NULL, 0, NULL, a->nonce,
                                                     a->key);
}

static int libsodium_open(struct aead *a, uint8_t *out, const uint8_t *in, size_t len) {
    return crypto_aead_chacha20poly1305_ietf_decrypt(out, NULL, NULL, in, len + TAG_BYTES, NULL, 0,
                                                     a->nonce, a->key);
}

#ifdef HAVE_LIBCRYPTO
static int openssl_start(struct aead *a, int sealing) {
    EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
    a->ctx = ctx;
    return ctx && EVP_CipherInit_ex(ctx, EVP_chacha20_poly1305(), NULL, a->key, a->nonce,
                                    sealing) == 1
               ? 0
               : -1;
}

static int openssl_seal(struct aead *a, uint8_t *out, const uint8_t *in, size_t len) {
    int n;
    if (EVP_EncryptInit_ex(a->ctx, NULL, NULL, NULL, a->nonce) != 1)
        return -1;
    if (EVP_EncryptUpdate(a->ctx, out, &n, in, (int)len) != 1)
        return -1;
    if (EVP_EncryptFinal_ex(a->ctx, out + n, &n) != 1)
        return -1;
    return EVP_CIPHER_CTX_ctrl(a->ctx, EVP_CTRL_AEAD_GET_TAG, TAG_BYTES, out + len) == 1 ? 0 : -1;
}

static int openssl_open(struct aead *a, uint8_t *out, const uint8_t *in, size_t len) {
    int n;
    uint8_t tag[TAG_BYTES];
    memcpy(tag, in + len, sizeof tag);
    if (EVP_DecryptInit_ex(a->ctx, NULL, NULL, NULL, a->nonce) != 1)
        return -1;
    if (EVP_DecryptUpdate(a->ctx, out, &n, in, (int)len) != 1)
        return -1;
    if (EVP_CIPHER_CTX_ctrl(a->ctx, EVP_CTRL_AEAD_SET_TAG, TAG_BYTES, tag) != 1)
        return -1;
    return EVP_DecryptFinal_ex(a->ctx, out + n, &n) == 1 ? 0 : -1;
}
#endif

/* seal == NULL: plain TCP; the record is sent and received as it lies. */
static const struct provider PROVIDERS[] = {
    {"none", 0, none_start, NULL, NULL},
    {"libsodium", TAG_BYTES, none_start, libsodium_seal, libsodium_open},
#ifdef HAVE_LIBCRYPTO
    {"openssl", TAG_BYTES, openssl_start, openssl_seal, openssl_open},
#endif
};

static const struct provider *find_provider(const char *name) {
    for (size_t i = 0; i < sizeof PROVIDERS / sizeof *PROVIDERS; i++)
        if (strcmp(PROVIDERS[i].name, name) == 0)
            return &PROVIDERS[i];
    fprintf(stderr, "ceiling: provider %s is not built in\n", name);
    exit(2);
}

/* --- the connection ------------------------------------------------------------------ */

static int listen_loopback(struct sockaddr_in *at) {
    socklen_t len = sizeof *at;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    *at = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    if (fd < 0 || bind(fd, (struct sockaddr *)at, len) || listen(fd, 1) ||
        getsockname(fd, (struct sockaddr *)at, &len))
        die("listen");
    return fd;
}

static int dial(const struct sockaddr_in *at) {
    int on = 1, fd = socket(AF_INET, SOCK_STREAM, 0);
    if (fd < 0 || connect(fd, (const struct sockaddr *)at, sizeof *at))
        die("connect");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    return fd;
}

static int accept_one(int listener) {
    int on = 1, fd = accept(listener, NULL, NULL);
    if (fd < 0)
        die("accept");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    return fd;
}

static void write_all(int fd, const uint8_t *from, size_t len) {
    while (len) {
        ssize_t n = send(fd, from, len, MSG_NOSIGNAL);
        if (n <= 0)
            die("send");
        from += n;
        len -= (size_t)n;
    }
}

/* 1: `len` bytes read; 0: the other side closed. */
static int read_all(int fd, uint8_t *to, size_t len) {
    while (len) {
        ssize_t n = recv(fd, to, len, 0);
        if (n < 0)
            die("recv");
        if (n == 0)
            return 0;
        to += n;
        len -= (size_t)n;
    }
    return 1;
}

static void *shared_tallies(void) {
    void *p = mmap(NULL, 2 * sizeof(struct tally), PROT_READ | PROT_WRITE,
                   MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED)
        die("mmap");
    return p;
}

static uint8_t *buffer(size_t len) {
    uint8_t *p = aligned_alloc(4096, (len + 4095) / 4096 * 4096);
    if (!p)
        die("memory");
    memset(p, 0, len);
    return p;
}

static void reap(pid_t child) {
    int status;
    if (waitpid(child, &status, 0) < 0 || status != 0)
        die("other side");
}

/* --- stream: one way, records of one size -------------------------------------------- */

static void send_records(const struct provider *p, struct aead *a, int fd, size_t size,
                         double seconds, struct tally *t) {
    uint8_t *plain = buffer(size), *sealed = buffer(size + TAG_BYTES);
    double until = wall_s() + seconds;
    if (p->start(a, 1))
        die("cipher");
    tally_start(t);
    while (wall_s() < until) {
        if (p->seal && p->seal(a, sealed, plain, size))
            die("seal");
        write_all(fd, p->seal ? sealed : plain, size + p->tag);
        sodium_increment(a->nonce, sizeof a->nonce);
        t->bytes += size;
    }
    shutdown(fd, SHUT_WR);
    (void)read_all(fd, plain, 1); /* until the receiver has taken everything */
    tally_stop(t);
}

static void receive_records(const struct provider *p, struct aead *a, int fd, size_t size,
                            struct tally *t) {
    uint8_t *sealed = buffer(size + TAG_BYTES), *plain = buffer(size);
    if (p->start(a, 0))
        die("cipher");
    tally_start(t);
    while (read_all(fd, sealed, size + p->tag)) {
        if (p->open && p->open(a, plain, sealed, size))
            die("open");
        sodium_increment(a->nonce, sizeof a->nonce);
        t->bytes += size;
    }
    tally_stop(t);
}

static int stream(const char *name, size_t size, double seconds) {
    const struct provider *p = find_provider(name);
    struct aead a = {0};
    struct sockaddr_in at;
    struct tally *t = shared_tallies(); /* [0] sender, [1] receiver */
    int listener = listen_loopback(&at);
    randombytes_buf(a.key, sizeof a.key);
    pid_t child = fork();
    if (child < 0)
        die("fork");
    alarm((unsigned)seconds + GRACE_S);
    if (child == 0) {
        receive_records(p, &a, accept_one(listener), size, &t[1]);
        _exit(0);
    }
    send_records(p, &a, dial(&at), size, seconds, &t[0]);
    reap(child);
    if (t[0].bytes != t[1].bytes)
        die("bytes lost");
    printf("{\"provider\": \"%s\", \"record_bytes\": %zu, \"bytes\": %llu, \"seconds\": %.6f, "
           "\"sender_cpu_s\": %.6f, \"receiver_cpu_s\": %.6f}\n",
           p->name, size, (unsigned long long)t[1].bytes, t[1].seconds, t[0].cpu, t[1].cpu);
    return 0;
}

/* --- ping-pong ----------------------------------------------------------------------- */

static int by_value(const void *a, const void *b) {
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

static void echo(int fd, size_t size) {
    uint8_t *message = buffer(size);
    while (read_all(fd, message, size))
        write_all(fd, message, size);
}

/* Round trips of `size` bytes for `seconds`; microseconds of each in `us`; returns how many. */
static size_t ping(int fd, size_t size, double seconds, float *us) {
    uint8_t *message = buffer(size);
    size_t n = 0;
    int skip = WARM_UP_ROUNDS;
    for (double now = wall_s(), until = now + seconds; now < until && n < MAX_SAMPLES;) {
        double before = now;
        write_all(fd, message, size);
        if (!read_all(fd, message, size))
            die("other side");
        now = wall_s();
        if (skip > 0)
            skip--;
        else
            us[n++] = (float)((now - before) * 1e6);
    }
    close(fd);
    return n;
}

static int pingpong(size_t size, double seconds) {
    struct sockaddr_in at;
    int listener = listen_loopback(&at);
    float *us = malloc(MAX_SAMPLES * sizeof *us);
    pid_t child = fork();
    if (child < 0 || !us)
        die("fork");
    alarm((unsigned)seconds + GRACE_S);
    if (child == 0) {
        echo(accept_one(listener), size);
        _exit(0);
    }
    size_t n = ping(dial(&at), size, seconds, us);
    reap(child);
    if (n == 0)
        die("no round trip");
    qsort(us, n, sizeof *us, by_value);
    printf("{\"round_trips\": %zu, \"p50_us\": %.2f, \"p99_us\": %.2f}\n", n, (double)us[n / 2],
           (double)us[n * 99 / 100]);
    return 0;
}

/* --- command line -------------------------------------------------------------------- */

static int versions(void) {
    printf("{\"libsodium\": \"%s\"", sodium_version_string());
#ifdef HAVE_LIBCRYPTO
    printf(", \"libcrypto\": \"%s\"", OpenSSL_version(OPENSSL_VERSION_STRING));
#endif
    printf("}\n");
    return 0;
}

static size_t size_argument(const char *text) {
    unsigned long n = strtoul(text, NULL, 10);
    if (n < 1 || n > MAX_RECORD)
        die("bytes: 1 to 16777216");
    return n;
}

static double seconds_argument(const char *text) {
    double s = strtod(text, NULL);
    if (!(s > 0 && s <= MAX_SECONDS))
        die("seconds: above 0, at most 30");
    return s;
}

int main(int argc, char **argv) {
    if (sodium_init() < 0)
        die("libsodium");
    if (argc == 2 && strcmp(argv[1], "versions") == 0)
        return versions();
    if (argc == 5 && strcmp(argv[1], "stream") == 0)
        return stream(argv[2], size_argument(argv[3]), seconds_argument(argv[4]));
    if (argc == 4 && strcmp(argv[1], "pingpong") == 0)
        return pingpong(size_argument(argv[2]), seconds_argument(argv[3]));
    fprintf(stderr, "usage: ceiling versions | stream PROVIDER BYTES SECONDS | "
                    "pingpong BYTES SECONDS\n");
    return 2;
}
