/* How much a connection hands to the kernel at a time: about what the kernel sends in PACE_SPAN_US,
 * so that what turns up later and is more urgent waits no longer than that (docs/adr/0011).
 *
 * Sans-IO: told what the kernel took, what it still holds, and the time. */
#ifndef DP2P_PACE_H
#define DP2P_PACE_H

#include "frame.h"

enum {
    PACE_SPAN_US = 10000,    /* ours: what a chunk may take */
    PACE_SAMPLE_US = 5000,   /* ours: shorter ones say little of a rate */
    PACE_GROW_US = 1000,     /* ours: between two doublings */
    PACE_FRAME_MIN = 4096,   /* ours: bytes of plaintext; smaller frames only cost */
    PACE_FRAMES_MAX = 8,     /* ours: frames of a chunk */
    PACE_SIZE_MIN = 4096,
    PACE_SIZE_BEGIN = 8192,  /* ours: 10 ms of 6.5 Mbit/s */
    PACE_SIZE_MAX = PACE_FRAMES_MAX * DP_FRAME_MAX,
    PACE_CHUNK_MAX = PACE_FRAMES_MAX * FRAME_WIRE_MAX
};

struct pace {
    uint64_t given;     /* bytes that the kernel has taken */
    uint64_t from;      /* of these, sent when the sample began */
    uint64_t from_us;   /* when it began, or 0 */
    uint64_t looked_us; /* when the kernel was last looked at */
    uint64_t grown_us;
    uint64_t unsent;        /* bytes that the kernel holds, at most */
    uint32_t size;          /* bytes that it sends in PACE_SPAN_US, as far as is known */
    uint32_t low_water_cap; /* 0: none */
    bool starved;           /* the kernel was without bytes during the sample: it sends faster */
    bool dry;               /* it had sent everything when last looked at, and more may follow */
};

void pace_begin(struct pace *pace, uint32_t low_water_cap);

/* Bytes of plaintext in a frame, and of the frames that are made at a time. */
size_t pace_frame(const struct pace *pace);
size_t pace_chunk(const struct pace *pace);
/* Below how many unsent bytes the kernel is to take more: a power of two, or the cap. */
uint32_t pace_low_water(const struct pace *pace);

/* The kernel took `bytes`. */
void pace_gave(struct pace *pace, size_t bytes);
/* There was nothing to give. */
void pace_idle(struct pace *pace);
/* Whether the kernel may hold enough, so that a look is due. */
bool pace_look_due(const struct pace *pace);
/* The kernel holds `unsent` bytes, and has perhaps `refused` some. Returns whether that is enough. */
bool pace_look(struct pace *pace, uint64_t unsent, bool refused, uint64_t now_us);

#endif
