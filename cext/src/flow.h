/* A flow: one protocol between two applications over one link, both directions.
 *
 * Credit and confirmation are one absolute position, counted from the flow's start: how many
 * datagrams and bytes the receiving application has consumed (docs/spec/wire.md, "Credit"). */
#ifndef DP2P_FLOW_H
#define DP2P_FLOW_H

#include "builder.h"
#include "meter.h"
#include "segment.h"

struct group;
struct link;
struct sink;

struct position {
    uint64_t datagrams;
    uint64_t bytes; /* payloads plus DP_DATAGRAM_COST each */
};

/* A message of an application, or a copy of one, that items point into. */
struct blob {
    const uint8_t *data;
    uint64_t token; /* the application side's name for it; unused when owned */
    uint32_t items; /* that still point here, plus one while it is being ingested */
    bool owned;     /* data stands behind this struct */
    struct blob *next_released;
};

/* A DATA record on its way out; with a `count` of 0 an EPOCH, of which `payload` is the body. */
struct item {
    struct item *next;
    struct blob *blob;
    const uint8_t *payload; /* of the datagram at `index` */
    const uint8_t *lengths; /* column, 4 bytes each, any alignment */
    const uint8_t *types;   /* column, 2 bytes each */
    uint32_t count, index;
    uint32_t offset; /* bytes of the current datagram that are sent */
    uint64_t queued_ms;
};

struct send_state {
    struct position accepted;  /* taken from the application */
    struct position sent;      /* given to the link, whole datagrams */
    struct position confirmed; /* consumed by the peer's application */
    uint64_t limit;            /* `accepted.bytes` may not pass it */
    uint64_t blocked_limit;    /* of the latest BLOCKED */
    uint64_t told_datagrams;   /* confirmed, and */
    uint64_t told_limit;       /* how far it may go, as the application heard at the latest */
    uint32_t peer_window;      /* as used: the node's cap may be lower than what the peer says */
    uint32_t waited_max_ms;    /* of what was sent since somebody asked */
    bool capped;               /* the peer offers more than is used */
    bool epoch;                /* said */
    struct item *head, *tail;
};

struct receive_state {
    struct position received;
    struct position consumed;
    uint64_t limit;        /* as announced to the peer */
    uint64_t free;         /* of it, up to here no meter was charged: that happens on arrival */
    uint64_t granted;      /* what the peer could send at the latest CREDIT */
    uint64_t fresh_limit;  /* announced with the latest growth */
    uint32_t first_window; /* that it began with */
    uint32_t squeezes;     /* the node's, when its window was settled */
    bool starved;          /* a BLOCKED came since the latest CREDIT */
    bool grew;             /* at the latest CREDIT */
    bool epoch;            /* heard */
    struct builder builder;
};

struct flow {
    struct link *link;
    struct sink *sink; /* NULL for a link's control flow */
    uint64_t handle;
    uint32_t max_datagram, types, window;
    uint8_t number, peer_number;
    uint8_t priority, weight; /* priority: the class it is in now */
    uint8_t own_priority;     /* that of its protocol */
    uint8_t lift_count;
    struct dp_lift lifts[DP_LIFTS_MAX];
    uint64_t
        lifted[DP_CLASS_COUNT]; /* datagrams to be sent before it may leave a class downwards */
    struct group *group;        /* NULL for a link's control flow */
    struct waiter up, down;     /* for its group to send; for any meter, with credit to grant */
    struct send_state send;
    struct receive_state receive;
    int32_t deficit;          /* scheduler: bytes it may still send in this round */
    struct flow *ring;        /* scheduler: next in its class, NULL when idle */
    struct flow *next;        /* on its link */
    struct flow *next_dirty;  /* in its sink's list of flows with news */
    struct flow *next_signal; /* in its link's list of flows with CREDIT or BLOCKED to send */
    bool dirty, signals, credit_due, confirmed_news;
};

/* Queue a record that was checked; the flow's send position moves. */
void flow_queue(struct flow *flow, struct item *item, struct position cost);

/* Bytes of an application's message that end a frame and need not be copied into it. */
struct tail {
    const uint8_t *data; /* valid until the message is released */
    size_t len;          /* 0: none */
};

/* The class it must be in, by what is queued. */
uint8_t flow_class(const struct flow *flow);
/* Cost of all that was sent, with the payload of an unfinished datagram. */
uint64_t flow_cost_sent(const struct flow *flow);

/* Write segments of queued datagrams: at most `room` bytes, and no further datagram once `budget`
 * bytes are written. Returns bytes written; 0 when the rest of a frame is too small to bother.
 * *drained says that the queue is empty. Fully sent items are unlinked into *done. With `tail`, a piece
 * that fills the room, or leaves too little to bother, may be left where it is: *tail says where, it
 * counts as written, and nothing may follow it. */
size_t flow_fill(struct flow *flow, uint8_t *out, size_t room, size_t budget, struct item **done,
                 bool *drained, struct tail *tail);

/* Account for a datagram that begins to arrive.
 * Errors: DP_E_DATAGRAM beyond the declared size or types, or amid another; DP_E_CREDIT. */
int flow_accept(struct flow *flow, uint32_t len, uint16_t type);

/* An EPOCH arrives. Errors: DP_E_DATAGRAM behind a datagram or another. */
int flow_epoch(struct flow *flow);

/* Take a CREDIT segment. Errors: DP_E_CREDIT when it confirms what was not sent, or moves back. */
int flow_credit(struct flow *flow, const struct segment *segment);

/* The application has consumed up to `position`. Errors: DP_E_CREDIT when it has not received as
 * much, or moves back. */
int flow_consume(struct flow *flow, struct position position);

#endif
