#include "pace.h"

enum { SAMPLE_MAX_US = 1000000, DRY_ENOUGH = 2 }; /* ours */

static uint64_t clamp(uint64_t value, uint64_t low, uint64_t high) {
    return value < low ? low : value > high ? high : value;
}

void pace_begin(struct pace *p, uint32_t low_water_cap) {
    *p = (struct pace){.queue = PACE_QUEUE_BEGIN, .low_water_cap = low_water_cap};
}

/* Half a queue comes on top of the half at which the socket is writable. */
size_t pace_frame(const struct pace *p) {
    return clamp(p->queue / 2, PACE_FRAME_MIN, DP_FRAME_MAX);
}

size_t pace_chunk(const struct pace *p) {
    size_t frame = pace_frame(p);
    return clamp(p->queue / 2 / frame, 1, PACE_FRAMES_MAX) * (FRAME_OVERHEAD + frame);
}

uint32_t pace_low_water(const struct pace *p) {
    uint32_t mark = PACE_QUEUE_MIN;
    while (mark <= p->queue / 2)
        mark *= 2;
    return p->low_water_cap && mark > p->low_water_cap ? p->low_water_cap : mark;
}

/* The kernel keeps running dry though there is more to send. On a fast path it does so until the
 * queue is long; on a slow one it may after a burst of acknowledgements: one step at a time. */
static void grow(struct pace *p) {
    if (p->looked_us - p->grown_us < PACE_GROW_US)
        return;
    p->grown_us = p->looked_us;
    p->queue = (uint32_t)clamp(2 * (uint64_t)p->queue, PACE_QUEUE_MIN, PACE_QUEUE_MAX);
}

void pace_gave(struct pace *p, size_t bytes) {
    p->given += bytes;
    p->unsent += bytes;
    if (p->dry == DRY_ENOUGH)
        grow(p);
}

void pace_idle(struct pace *p) {
    p->starved = true;
    p->dry = 0;
}

/* Long samples count for more than short ones. A starved one is only a lower bound. */
static void learn(struct pace *p, uint64_t sent, uint64_t took_us) {
    took_us = clamp(took_us, PACE_SAMPLE_US, SAMPLE_MAX_US);
    uint64_t queue = clamp(sent, 0, UINT32_MAX) * PACE_SPAN_US / took_us;
    int64_t more = (int64_t)clamp(queue, PACE_QUEUE_MIN, PACE_QUEUE_MAX) - p->queue;
    if (more > 0 || !p->starved)
        p->queue += (int32_t)(more * (int64_t)took_us / (int64_t)(took_us + PACE_SPAN_US));
}

/* A sample lasts from one moment at which the kernel has enough to another. */
static void sample(struct pace *p, uint64_t now_us) {
    uint64_t sent = p->given - p->unsent;
    if (p->from_us && now_us - p->from_us < PACE_SAMPLE_US)
        return;
    if (p->from_us)
        learn(p, sent - p->from, now_us - p->from_us);
    p->from = sent;
    p->from_us = now_us;
    p->starved = false;
}

bool pace_look_due(const struct pace *p) {
    return p->unsent > pace_low_water(p) / 2;
}

static void look(struct pace *p, uint64_t unsent, uint64_t now_us) {
    p->unsent = unsent < p->given ? unsent : p->given;
    p->looked_us = now_us;
}

static void note_dry(struct pace *p) {
    p->starved = true;
    p->dry += p->dry < DRY_ENOUGH;
}

bool pace_look(struct pace *p, uint64_t unsent, bool refused, uint64_t now_us) {
    look(p, unsent, now_us);
    if (p->unsent == 0 && !refused)
        note_dry(p);
    bool enough = refused || pace_look_due(p);
    if (enough)
        sample(p, now_us);
    return enough;
}

void pace_writable(struct pace *p, uint64_t unsent, uint64_t now_us) {
    look(p, unsent, now_us);
    if (p->unsent == 0)
        note_dry(p);
    else
        p->dry = 0;
}
