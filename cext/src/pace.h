/* How much a connection hands to the kernel at a time. Its queue there is kept at what the kernel
 * sends in PACE_SPAN_US, so that what turns up later and is more urgent waits no longer than that
 * (docs/adr/0011).
 *
 * Sans-IO: told what the kernel took, what it has not sent, and the time. */
#ifndef DP2P_PACE_H
#define DP2P_PACE_H

#include "frame.h"

enum {
    PACE_SPAN_US = 10000,  /* ours: what the queue may take */
    PACE_SAMPLE_US = 5000, /* ours: shorter ones say little of a rate */
    PACE_GROW_US = 1000,   /* ours: between two doublings */
    PACE_FRAME_MIN = 4096, /* ours: bytes of plaintext; smaller frames only cost */
    PACE_FRAMES_MAX = 2,   /* ours: made at a time */
    PACE_CHUNK_MAX = PACE_FRAMES_MAX * FRAME_WIRE_MAX,
    PACE_QUEUE_MIN = 4096,
    PACE_QUEUE_BEGIN = 8192, /* ours: 10 ms of 6.5 Mbit/s */
    PACE_QUEUE_MAX = 2 * PACE_FRAMES_MAX * DP_FRAME_MAX
};

struct pace {
    uint64_t given;     /* bytes that the kernel has taken */
    uint64_t from;      /* of these, sent when the sample began */
    uint64_t from_us;   /* when that was; 0: there is no sample */
    uint64_t looked_us; /* the last look at the kernel's queue */
    uint64_t grown_us;
    uint64_t unsent;        /* bytes in the kernel's queue, at most */
    uint32_t queue;         /* bytes that it sends in PACE_SPAN_US, as far as is known */
    uint32_t low_water_cap; /* 0: none */
    uint8_t dry;            /* times in a row, 2 at most, that all was sent before more came */
    bool starved;           /* there was a time in the sample without bytes to send */
};

void pace_begin(struct pace *pace, uint32_t low_water_cap);

/* Bytes of plaintext in a frame. */
size_t pace_frame(const struct pace *pace);
/* Bytes of the frames that are made at a time. */
size_t pace_chunk(const struct pace *pace);
/* TCP_NOTSENT_LOWAT: a power of two, or the cap. The socket is writable below half of it. */
uint32_t pace_low_water(const struct pace *pace);

/* The kernel took `bytes`. */
void pace_gave(struct pace *pace, size_t bytes);
/* There was nothing to give. */
void pace_idle(struct pace *pace);
/* Whether the kernel may have enough, so that it should be asked. */
bool pace_look_due(const struct pace *pace);
/* The kernel has `unsent` bytes to send, and has perhaps `refused` more. Returns whether that is
 * enough until the socket is writable. */
bool pace_look(struct pace *pace, uint64_t unsent, bool refused, uint64_t now_us);
/* It is writable again, with `unsent` bytes still to send. */
void pace_writable(struct pace *pace, uint64_t unsent, uint64_t now_us);

#endif
