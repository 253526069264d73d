/* Arithmetic mod p = 2^255 - 19, the field of Curve25519 (RFC 7748, 4.1). No branch and no address
 * depends on a value; even so, what we give it is public. */
#ifndef DP2P_FIELD25519_H
#define DP2P_FIELD25519_H

#include "dp2p_base.h"

enum { FIELD_LIMBS = 5 };

/* A number as the sum of limb[i] 2^(51 i): in 64 bits a limb has room for carries that are not done
 * yet. Stands for its residue, of which it is one form among several. */
struct field {
    uint64_t limb[FIELD_LIMBS];
};

/* From 32 bytes, little endian. The highest bit is ignored; p to 2^255 - 1 stand for 0 to 18. */
struct field field_load(const uint8_t in[32]);
/* The one form below p. */
void field_store(uint8_t out[32], const struct field *a);
/* Whether `in` is a number below p: what field_store may give. */
bool field_is_stored(const uint8_t in[32]);
bool field_equal(const struct field *a, const struct field *b);

/* Of numbers that were loaded or are a product: neither takes a sum or a difference. */
struct field field_plus(const struct field *a, const struct field *b);
struct field field_minus(const struct field *a, const struct field *b);

/* Products, of any of the above. */
struct field field_times(const struct field *a, const struct field *b);
struct field field_square(const struct field *a);
/* 1 / a, and 0 of 0. */
struct field field_invert(const struct field *a);

#endif
