/* One connection between two nodes, sans-IO. The only layer that sees both handshake and frames. */
#ifndef DP2P_LINK_H
#define DP2P_LINK_H

#include "caps.h"
#include "frame.h"
#include "scheduler.h"

struct dp_node;
struct shake;

/* A link is in one of these lists, or in none once it is dead. */
enum link_timer {
    LINK_TIMER_HANDSHAKE, /* until established, handshake_ms after its start */
    LINK_TIMER_KEEPALIVE, /* looked at every keepalive_ms */
    LINK_TIMER_CLOSING,   /* CLOSING_MS to write the close */
    LINK_TIMERS,
    LINK_TIMER_NONE = LINK_TIMERS
};

enum {
    CLOSING_MS = 1000,
    CONTROL_QUEUE_MAX = 1 << 20, /* bytes of control datagrams queued on a link */
    LINK_CHANNELS = 256
};

/* What the peer has withdrawn from under data in flight: channels whose data is dropped. */
struct tombstones {
    uint64_t channels[LINK_CHANNELS / 64];
};

struct link {
    struct dp_node *node;
    uint64_t handle;
    uint64_t dial;
    void *owner;   /* the engine's connection, or NULL */
    uint8_t state; /* enum dp_link_state */
    uint8_t timer; /* enum link_timer */
    uint8_t mode;  /* enum dp_mode */
    bool initiator;
    bool fell_back;
    bool has_secret;
    bool heard;       /* the peer has admitted it: its first control datagram was given out */
    bool established; /* admitted on both sides */
    bool held;        /* rests until the events are done */
    bool dirty, on_held, reaped;
    bool ping_due, pong_due, close_due, close_sent;
    uint16_t close_reason;
    uint64_t pong_token;
    uint64_t due_ms, last_in_ms;
    uint8_t key[DP_KEY_LEN]; /* the peer's Ed25519 public key */
    uint8_t
        secret[DP_KEY_LEN]; /* secret: makes the tickets; until they are given out, or it opens */
    struct dp_address remote, seen;
    struct shake *shake;          /* NULL after the handshake */
    struct buffer *pending;       /* handshake bytes on their way out */
    struct frame_cipher *ciphers; /* [0] sends, [1] receives; NULL before. secret */
    struct scheduler sched;
    struct flow *flows;        /* of applications */
    struct flow **index;       /* [2 * LINK_CHANNELS]: by our number, then by the peer's; NULL until
                                 there are many */
    struct flow *control;      /* NULL until used */
    uint16_t streaming;        /* 1 + our number of the flow whose piece was all of the latest
                                  frame; 0: it was none */
    struct buffer *control_in; /* control datagram that arrives in pieces */
    uint32_t control_total;
    uint16_t control_type;
    uint32_t flow_count;
    struct tombstones *tombstones; /* NULL while there are none */
    struct flow *signals;          /* flows with CREDIT or BLOCKED to send */
    struct caps caps;
    struct waiter up; /* for its own meter, or the node's */
    struct link *timer_prev, *timer_next;
    struct link *next_dirty, *next_held, *next_reap;
    uint64_t bytes_in, bytes_out, datagrams_in, datagrams_out;
};

/* --- link.c: life and death --- */
int link_new(struct dp_node *node, struct link **out, bool initiator, const struct dp_known *known,
             const struct dp_address *remote, uint64_t dial, uint64_t now_ms);
void link_free(struct link *link);
/* Something is to be sent. */
void link_mark(struct link *link);
/* Whether it takes bytes from the peer now. */
bool link_may_read(const struct link *link);
/* Bytes of the frame that begins at `data`, if that can be told yet; else 0. */
size_t link_frame_size(const struct link *link, const uint8_t *data, size_t len);
/* End a link because of `status`; say why to the peer when it broke a rule. */
void link_fail(struct link *link, int status);
/* As link_fail, with the reason the peer gave or this side gives. */
void link_down(struct link *link, int status, uint16_t reason);
/* The flow with our number, or with the peer's; NULL when there is none. */
struct flow *link_flow(const struct link *link, uint8_t number);
struct flow *link_flow_by_peer(const struct link *link, uint8_t number);
/* Whether what comes for our `number` is dropped. */
bool link_buried(const struct link *link, uint8_t number);
void link_timer_set(struct link *link, enum link_timer timer, uint64_t due_ms);
void link_timer_clear(struct link *link);
/* Admitted on both sides. */
void link_established(struct link *link, uint64_t now_ms);
/* A flow has a CREDIT to send. */
void link_mark_credit(struct flow *flow);
/* It may have something to signal. */
void link_mark_signal(struct flow *flow);
void link_drop_flow(struct flow *flow);

/* --- link_shake.c: the handshake on the wire --- */
/* Errors: as dp_link_new. */
int shake_start(struct link *link, const struct dp_known *known);
void shake_free(struct link *link);
/* Whether it waits for dp_link_ticket. */
bool shake_rests(const struct link *link);
/* The Ed25519 key that the peer has proved to have, or NULL. */
const uint8_t *shake_answered(const struct link *link);
/* Write the initiator's first message, once. */
int shake_begin(struct link *link);
int shake_receive(struct link *link, uint8_t *data, size_t len, size_t *used, uint64_t now_ms);

/* --- link_shake_ticket.c --- */
void link_forget_secret(struct link *link);

/* --- link_receive.c --- */
int link_receive(struct link *link, uint8_t *data, size_t len, size_t *used, uint64_t now_ms);

/* --- link_produce.c --- */
/* Up to `cap` bytes for the peer, in frames of at most `frame_max` bytes of plaintext, none of which
 * is begun unless a full one has room. */
int link_produce(struct link *link, uint8_t *out, size_t cap, size_t frame_max, size_t *len,
                 uint64_t now_ms);

#endif
