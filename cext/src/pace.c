#include "pace.h"

static uint64_t clamp(uint64_t value, uint64_t low, uint64_t high) {
    return value < low ? low : value > high ? high : value;
}

void pace_begin(struct pace *p, uint32_t low_water_cap) {
    *p = (struct pace){.size = PACE_SIZE_BEGIN, .low_water_cap = low_water_cap};
}

/* Half a chunk: the peer opens a frame only when it has all of it. */
size_t pace_frame(const struct pace *p) {
    return clamp(p->size / 2, PACE_FRAME_MIN, DP_FRAME_MAX);
}

size_t pace_chunk(const struct pace *p) {
    size_t frame = pace_frame(p);
    return clamp(p->size / frame, 1, PACE_FRAMES_MAX) * (FRAME_OVERHEAD + frame);
}

uint32_t pace_low_water(const struct pace *p) {
    uint32_t mark = PACE_SIZE_MIN;
    while (mark <= p->size / 2)
        mark *= 2;
    return p->low_water_cap && mark > p->low_water_cap ? p->low_water_cap : mark;
}

/* More was to be sent when the kernel had sent everything, so it takes more at a time. It has, in
 * bursts of acknowledgements, on slow paths too: so one step at a time. */
static void grow(struct pace *p) {
    p->dry = false;
    if (p->looked_us - p->grown_us < PACE_GROW_US)
        return;
    p->grown_us = p->looked_us;
    p->size = (uint32_t)clamp(2 * (uint64_t)p->size, PACE_SIZE_MIN, PACE_SIZE_MAX);
}

void pace_gave(struct pace *p, size_t bytes) {
    p->given += bytes;
    p->unsent += bytes;
    if (p->dry)
        grow(p);
}

void pace_idle(struct pace *p) {
    p->starved = true;
    p->dry = false;
}

/* Longer samples count for more. */
static void learn(struct pace *p, uint64_t sent, uint64_t took_us) {
    took_us = clamp(took_us, PACE_SAMPLE_US, 1000000);
    uint64_t size = clamp(clamp(sent, 0, UINT32_MAX) * PACE_SPAN_US / took_us, PACE_SIZE_MIN,
                          PACE_SIZE_MAX);
    int64_t more = (int64_t)size - p->size;
    if (more > 0 || !p->starved)
        p->size += (int32_t)(more * (int64_t)took_us / (int64_t)(took_us + PACE_SPAN_US));
}

/* A sample lasts from one moment at which the kernel had enough to another. */
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
    return p->unsent >= pace_low_water(p);
}

bool pace_look(struct pace *p, uint64_t unsent, bool refused, uint64_t now_us) {
    p->unsent = unsent < p->given ? unsent : p->given;
    p->looked_us = now_us;
    p->dry = unsent == 0 && !refused;
    p->starved |= p->dry;
    bool enough = refused || pace_look_due(p);
    if (enough)
        sample(p, now_us);
    return enough;
}
