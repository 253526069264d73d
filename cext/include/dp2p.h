/* The transport of one shard: links, flows and the epoll engine that drives them.
 *
 * A *node* holds what all links of one loop share: identity, limits, the AEAD provider, events and
 * the applications' sinks. A *link* is one connection, sans-IO: bytes in, events and bytes out. A
 * *flow* joins one link, one protocol and one application. An *engine* owns the sockets of a node.
 * Nothing here is thread safe: each node belongs to one loop.
 *
 * Wire format: docs/spec/wire.md. Records: docs/spec/app-api.md.
 */
#ifndef DP2P_H
#define DP2P_H

#include "dp2p_base.h"

/* cdef:begin */

typedef struct dp_node dp_node;
typedef struct dp_engine dp_engine;

enum {
    DP_FRAME_MAX = 32784,       /* bytes of plaintext in a frame: two hold a datagram of 64 KiB */
    DP_HELLO_MAX = 32000,       /* bytes of the JSON part of a handshake payload */
    DP_CONTROL_MAX = 262144,    /* bytes of a control datagram */
    DP_CONTROL_CHANNEL = 255,   /* the node's own channel on every link */
    DP_CHANNEL_COUNT = 250,     /* channels 0 to 249 belong to protocols */
    DP_DATAGRAM_MAX = 16777216, /* bytes of the largest datagram */
    DP_DATAGRAM_COST = 16,      /* bytes of credit a datagram costs beyond its payload */
    DP_CLASS_COUNT = 3,
    DP_GROUP_COUNT = 256, /* flows of one group share caps and counters */
    DP_LIFTS_MAX = 8,
    DP_TICKET_NAME_LEN = 16,
    DP_TICKET_LEN = 48 /* name | psk (32, secret) */
};

/* The highest rate that can be set, in bytes a second. */
#define DP_RATE_MAX 0x10000000000

enum dp_priority { DP_URGENT = 0, DP_NORMAL = 1, DP_BULK = 2 };

enum dp_link_state {
    DP_LINK_HANDSHAKE = 0, /* connecting or shaking hands */
    DP_LINK_READY = 1,     /* authenticated; waits for dp_link_admit, and meanwhile reads no further
                              than the peer's first control datagram */
    DP_LINK_OPEN = 2,      /* admitted on this side */
    DP_LINK_CLOSING = 3,   /* a close is on its way out */
    DP_LINK_DEAD = 4
};

/* How a handshake began, as its initiator chose by what it knew. */
enum dp_mode {
    DP_MODE_XX = 0,    /* nothing */
    DP_MODE_IK = 1,    /* the peer's key */
    DP_MODE_RESUME = 2 /* a ticket of an earlier session: NNpsk0 */
};

/* What a dial relies on. Read during the call only. */
struct dp_known {
    const uint8_t *key;    /* the peer's Ed25519 public key, or NULL */
    const uint8_t *ticket; /* DP_TICKET_LEN bytes of a session with that key, or NULL; secret */
    bool pinned;           /* no other key may answer */
};

struct dp_address {
    uint8_t family; /* 4, 6, or 0 for none */
    uint8_t ip[16]; /* network order; the first 4 bytes for IPv4 */
    uint16_t port;
};

struct dp_node_config {
    uint8_t seed[DP_SEED_LEN]; /* secret: Ed25519 */
    const char *network;       /* peers of other networks cannot shake hands */
    const char *aead;          /* provider, or NULL for the fastest */
    dp_random_fn random;       /* NULL: the operating system */
    void *random_context;
    uint32_t max_links;
    uint32_t max_handshakes;             /* inbound links that are not yet open, in all */
    uint32_t max_handshakes_per_address; /* and per IPv4 address or IPv6 /64 */
    uint32_t max_handshakes_per_network; /* and per IPv4 /24 or IPv6 /48 */
    uint32_t handshake_ms;               /* from dialling or accepting to open, in total */
    uint32_t keepalive_ms;               /* quiet time after which a ping is sent */
    uint32_t idle_ms;                    /* quiet time after which a link is closed */
    uint64_t rekey_bytes;                /* sent under one key */
    uint32_t rekey_ms;
    uint32_t send_low_water;   /* most that may wait unsent in the kernel, bytes; 0: no cap */
    uint32_t window_max;       /* up to which a flow's window may grow, and above which a peer's is
                                  not used; bytes */
    uint64_t window_bytes_max; /* sum of all flows' windows, both directions, beyond which none
                                  grows; 0: no cap */
};

enum dp_event_kind {
    DP_EVENT_READY = 1,   /* handshake done: data is the peer's hello */
    DP_EVENT_CONTROL = 2, /* data is a control datagram of `type`; the link rests until
                             dp_node_events_done */
    DP_EVENT_DOWN = 3, /* the link is gone: status; reason when DP_E_CLOSED, errno when DP_E_IO; for
                          a DP_E_IDENTITY data is the key that answered, if one proved itself */
    DP_EVENT_REFUSED = 4, /* a record of application `sink` was refused: status, flow */
    DP_EVENT_TICKET = 5   /* an inbound handshake relies on a ticket: data is its name; the link
                             rests until dp_link_ticket */
};

struct dp_event {
    int kind;
    int status;
    uint64_t link;
    uint64_t dial;
    uint32_t sink;
    uint32_t flow;
    uint16_t type;
    uint16_t reason;
    bool unsent; /* of a DP_EVENT_DOWN: not a byte of it has left; a ticket is as good as new */
    const uint8_t *data; /* valid until dp_node_events_done */
    size_t len;
};

struct dp_link_info {
    uint64_t dial; /* the dial that made it, or 0 */
    int state;
    bool initiator;
    int mode;        /* enum dp_mode; of an inbound link known from READY on */
    bool fell_back;  /* the responder could not use what the initiator relied on: XXfallback */
    uint8_t key[32]; /* the peer's Ed25519 public key; zeros before READY */
    struct dp_address remote;
    struct dp_address seen; /* this node as the peer sees it */
    uint64_t bytes_in, bytes_out;
    uint64_t datagrams_in, datagrams_out;
    uint32_t flows;
};

/* Datagrams of the types `first` to `last` are more urgent than their flow: while one is queued, the
 * flow is in the class `priority`, so that what stands before it goes faster too. */
struct dp_lift {
    uint16_t first, last;
    uint8_t priority; /* enum dp_priority, above that of the flow */
};

/* A flow to be opened; see dp_flow_open. */
struct dp_flow_config {
    uint32_t sink;         /* the application */
    uint8_t number;        /* channel under which this node receives */
    uint8_t peer_number;   /* channel under which the peer receives */
    uint8_t priority;      /* enum dp_priority */
    uint8_t weight;        /* share within the class, 1 or more */
    uint32_t max_datagram; /* largest payload in either direction */
    uint32_t types;        /* types run from 0 to types - 1 */
    uint32_t window;       /* bytes granted to the peer */
    uint32_t peer_window;  /* bytes granted by the peer */
    uint8_t group;         /* all flows of one protocol have the same */
    uint8_t lift_count;
    struct dp_lift lifts[8]; /* DP_LIFTS_MAX */
};

/* What applications' datagrams cost (payload and DP_DATAGRAM_COST each) since the node began. Down
 * counts a datagram when it begins to arrive, up what has left. */
struct dp_usage {
    uint64_t up_bytes, down_bytes;
    bool up_short, down_short; /* the cap held something back since this was last asked */
};

/* A position in one direction of a flow. */
struct dp_position {
    uint64_t datagrams;
    uint64_t bytes; /* of credit: payloads plus DP_DATAGRAM_COST each */
};

/* What a flow knows of itself. */
struct dp_flow_info {
    uint64_t link;
    struct dp_position accepted, sent, confirmed; /* of what this side sends */
    struct dp_position received, consumed;        /* of what it receives */
    uint64_t send_limit, receive_limit;           /* bytes of credit: how far each side may go */
    uint32_t window, peer_window;                 /* granted to the peer; by the peer, as used */
    uint32_t wait_ms;       /* how long what is at the head of the queue has waited; 0: empty */
    uint32_t waited_max_ms; /* longest wait of what was sent since this was last asked */
};

struct dp_stats {
    uint64_t links, handshakes_pending, flows;
    uint64_t handshakes_done, handshakes_failed, links_refused;
    /* links that became READY, by how; one that fell back counts as that alone */
    uint64_t handshakes_xx, handshakes_ik, handshakes_resume, handshakes_fallback;
    uint64_t bytes_in, bytes_out, frames_in, frames_out;
    uint64_t datagrams_in, datagrams_out, payload_in, payload_out;
    uint64_t rekeys, records_refused, accept_failures;
    uint64_t events_lost;  /* memory was short: the shard should start anew */
    uint64_t buffer_bytes; /* held in buffers of any kind now */
    /* sums over all flows, in bytes of credit, now */
    uint64_t window_bytes; /* that peers may send before more is consumed */
    uint64_t
        peer_window_bytes;  /* that peers let this node send before more is confirmed, as used */
    uint64_t unread_bytes;  /* received and not consumed */
    uint64_t queued_bytes;  /* accepted from applications and not sent */
    uint64_t windows_grown; /* times */
};

/* One message for an application. */
struct dp_output {
    uint32_t sink;
    const uint8_t *data;
    size_t len;
};

/* --- node --- */

/* Errors: DP_E_ARGUMENT, DP_E_PROVIDER, DP_E_MEMORY. The seed is copied; wipe your own. */
int dp_node_new(dp_node **out, const struct dp_node_config *config);
void dp_node_free(dp_node *node);
const char *dp_node_aead(const dp_node *node);

/* The JSON part of the payload in all handshakes from now on. DP_E_SIZE above DP_HELLO_MAX. */
int dp_node_set_hello(dp_node *node, const uint8_t *hello, size_t len);

/* What has happened: the array, valid until the next call that may make an event, and its length.
 * dp_node_events_done removes these, keeps what came meanwhile for the next time, and ends the rest
 * of held links, so handle all of them in between. */
size_t dp_node_events(dp_node *node, const struct dp_event **out);
void dp_node_events_done(dp_node *node);
void dp_node_stats(const dp_node *node, struct dp_stats *out);

/* Do what is due at now_ms (deadlines, keepalives); returns when to call next, or UINT64_MAX. The
 * engine does this by itself. */
uint64_t dp_node_tick(dp_node *node, uint64_t now_ms);

/* --- applications --- */

/* A new sink. Its id comes back only after some 262,000 others. */
int dp_sink_open(dp_node *node, uint32_t *sink);
/* Close its flows without a word and forget what it has not fetched. */
void dp_sink_close(dp_node *node, uint32_t sink);
/* Append a record to what the application will get, behind what its flows have received. */
int dp_sink_push(dp_node *node, uint32_t sink, const uint8_t *record, size_t len);

/* Take a message from an application. When *kept is true the node reads `data` until `token` comes
 * out of dp_node_released, else it is done with it. A record that is refused changes nothing and
 * makes a DP_EVENT_REFUSED; the rest of the message goes on unless its framing is lost.
 * Errors: DP_E_ARGUMENT for an unknown sink. */
int dp_sink_ingest(dp_node *node, uint32_t sink, uint64_t token, const uint8_t *data, size_t len,
                   bool *kept);

/* Tokens whose messages are no longer read: up to `cap` of them, removed from the list. */
size_t dp_node_released(dp_node *node, uint64_t *tokens, size_t cap);

/* Finish what flows have received, so that dp_node_output shows it. */
int dp_node_collect(dp_node *node);
/* The next message for an application; false when there is none. dp_node_output_done removes it. */
bool dp_node_output(dp_node *node, struct dp_output *out);
void dp_node_output_done(dp_node *node);

/* --- links --- */

/* A link without a socket. `known` is for initiators; NULL = nothing is known.
 * Errors: DP_E_MEMORY, DP_E_LIMIT, DP_E_KEY (the known key cannot be one), DP_E_ARGUMENT (a ticket
 * or `pinned` without a key, or known to a responder). */
int dp_link_new(dp_node *node, uint64_t *link, bool initiator, const struct dp_known *known,
                const struct dp_address *remote, uint64_t dial, uint64_t now_ms);

/* Feed bytes from the peer; they are decrypted in place. *used says how many were taken: what is
 * left must be offered again, in front of what follows. Any error but DP_E_ARGUMENT has ended the
 * link (a DP_EVENT_DOWN says so too). */
int dp_link_receive(dp_node *node, uint64_t link, uint8_t *data, size_t len, size_t *used,
                    uint64_t now_ms);

/* Up to `cap` bytes for the peer. 0 bytes: nothing to say. `cap` must be at least
 * DP_PRODUCE_MIN. */
int dp_link_produce(dp_node *node, uint64_t link, uint8_t *out, size_t cap, size_t *len,
                    uint64_t now_ms);
enum { DP_PRODUCE_MIN = 33024 };

/* Answer a DP_EVENT_TICKET: the ticket's psk (32 bytes, secret) and the Ed25519 key of the session it
 * came from, or NULL and NULL: it is unknown, so the handshake falls back. What the link has left
 * unread must then be offered again (the engine does). Errors: DP_E_ARGUMENT, DP_E_STATE when the
 * link does not wait for a ticket. */
int dp_link_ticket(dp_node *node, uint64_t link, const uint8_t *psk, const uint8_t *key);
/* The tickets that a READY link's handshake gave: for this node's next dial to the peer, and for the
 * peer's next dial to this node. Secret. Given out once; DP_E_STATE then, and once it is admitted. */
int dp_link_tickets(dp_node *node, uint64_t link, uint8_t dial[48], uint8_t accept[48]);

/* Let a READY link open: `control` is the first control datagram (type 1) sent on it. */
int dp_link_admit(dp_node *node, uint64_t link, const uint8_t *control, size_t len);
/* Send a control datagram of at most DP_CONTROL_MAX bytes. DP_E_LIMIT when the peer is too slow to take
 * what is queued already. */
int dp_link_control(dp_node *node, uint64_t link, uint16_t type, const uint8_t *data, size_t len);
/* Send a PING soon: what comes after it shows that the peer lives. DP_E_STATE unless OPEN. */
int dp_link_ping(dp_node *node, uint64_t link);
/* Say why and close. A link in its handshake is dropped without a word. */
int dp_link_close(dp_node *node, uint64_t link, uint16_t reason);
/* The stream under the link has ended: a DP_EVENT_DOWN with `status`, and nothing more of it. */
int dp_link_end(dp_node *node, uint64_t link, int status);
int dp_link_get(const dp_node *node, uint64_t link, struct dp_link_info *out);

/* --- flows --- */

/* Join a protocol on a link with an application. Errors: DP_E_STATE when the link is not open or
 * `number` is taken on it, DP_E_ARGUMENT. */
int dp_flow_open(dp_node *node, uint64_t link, const struct dp_flow_config *config, uint32_t *flow);
/* Forget a flow. With `tombstone`, what the peer still sends to its number is dropped until
 * dp_flow_bury. */
int dp_flow_close(dp_node *node, uint32_t flow, bool tombstone);
int dp_flow_bury(dp_node *node, uint64_t link, uint8_t number);
/* Drop what comes for `number` until dp_flow_bury, whether or not a flow has it. Errors: DP_E_STATE
 * when the link is not open. */
int dp_flow_tombstone(dp_node *node, uint64_t link, uint8_t number);

/* What the flow knows of itself; begins a new waited_max_ms. Errors: DP_E_ARGUMENT. */
int dp_flow_get(dp_node *node, uint32_t flow, struct dp_flow_info *out);

/* --- caps --- */

/* Cap what the applications' datagrams of all links, of a group of flows, or of a link may cost, in
 * bytes a second; 0 = no cap. What goes up waits its turn here; what comes down is held back by
 * granting the peers less credit. Errors: DP_E_ARGUMENT for a rate above DP_RATE_MAX, a group from
 * DP_GROUP_COUNT on, an unknown link. */
int dp_node_limit(dp_node *node, uint64_t up, uint64_t down);
int dp_group_limit(dp_node *node, uint32_t group, uint64_t up, uint64_t down);
int dp_link_limit(dp_node *node, uint64_t link, uint64_t up, uint64_t down);
/* Counted whether or not there is a cap. Errors: DP_E_ARGUMENT. */
int dp_node_usage(dp_node *node, struct dp_usage *out);
int dp_group_usage(dp_node *node, uint32_t group, struct dp_usage *out);

/* --- engine --- */

int dp_engine_new(dp_engine **out, const struct dp_node_config *config);
void dp_engine_free(dp_engine *engine);
dp_node *dp_engine_node(dp_engine *engine);

/* Listen with SO_REUSEPORT; *port gets the number chosen for port 0. Errors: DP_E_IO, DP_E_LIMIT,
 * DP_E_ARGUMENT for an address that is neither IPv4 nor IPv6. */
int dp_engine_listen(dp_engine *engine, const struct dp_address *address, uint16_t *port);
void dp_engine_stop_listening(dp_engine *engine);

/* Begin to connect. The outcome is a DP_EVENT_READY or DP_EVENT_DOWN with `dial`. Errors: DP_E_IO, and
 * as dp_link_new. */
int dp_engine_dial(dp_engine *engine, const struct dp_address *address,
                   const struct dp_known *known, uint64_t dial, uint64_t *link);

/* Bits of *woken beside those of watched descriptors. */
#define DP_WOKEN_EVENTS 0x4000000000000000 /* dp_node_events has something */
#define DP_WOKEN_OUTPUT 0x2000000000000000 /* dp_node_output has something */

/* Wake dp_engine_poll when `fd` becomes readable (ZeroMQ's are edge triggered). `tag` is its bit, 0
 * to 31. */
int dp_engine_watch(dp_engine *engine, int fd, uint32_t tag);
void dp_engine_unwatch(dp_engine *engine, int fd);

/* Write what is due, wait up to timeout_ms for something to do (-1: until a deadline), read, and
 * collect outputs. *woken says what there is to do now. Errors: DP_E_IO, DP_E_MEMORY. */
int dp_engine_poll(dp_engine *engine, int timeout_ms, uint64_t *woken);
/* Write what is due now, without waiting. */
void dp_engine_flush(dp_engine *engine);
/* For a process that is one engine: let the C library keep freed memory for the next message (up to
 * 64 MiB) instead of returning it page by page, in one arena for all threads. */
void dp_process_tune(void);
/* The engine's clock, ms. */
uint64_t dp_engine_now(void);

/* cdef:end */
#endif
