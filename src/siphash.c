/*
 * siphash.c
 *		SipHash-2-4 (Aumasson and Bernstein, 2012).
 */
#include "postgres.h"

#include "siphash.h"

#define ROTATE_LEFT(x, bits) (((x) << (bits)) | ((x) >> (64 - (bits))))

static void
sip_round(uint64 v[4])
{
	v[0] += v[1];
	v[1] = ROTATE_LEFT(v[1], 13) ^ v[0];
	v[0] = ROTATE_LEFT(v[0], 32);
	v[2] += v[3];
	v[3] = ROTATE_LEFT(v[3], 16) ^ v[2];
	v[0] += v[3];
	v[3] = ROTATE_LEFT(v[3], 21) ^ v[0];
	v[2] += v[1];
	v[1] = ROTATE_LEFT(v[1], 17) ^ v[2];
	v[2] = ROTATE_LEFT(v[2], 32);
}

uint64
om_siphash(const uint8 key[16], const uint8 *data, size_t length)
{
	uint64 k0;
	uint64 k1;
	uint64 v[4];
	uint64 word;
	size_t offset = 0;

	memcpy(&k0, key, sizeof(k0));
	memcpy(&k1, key + 8, sizeof(k1));
	v[0] = k0 ^ UINT64CONST(0x736f6d6570736575);
	v[1] = k1 ^ UINT64CONST(0x646f72616e646f6d);
	v[2] = k0 ^ UINT64CONST(0x6c7967656e657261);
	v[3] = k1 ^ UINT64CONST(0x7465646279746573);
	while (offset <= length)
	{
		/* The last word holds what is left and, in its top byte, the length. */
		size_t rest = Min(length - offset, 8);

		word = 0;
		memcpy(&word, data + offset, rest);
		if (rest < 8)
			word |= (uint64) (length & 0xff) << 56;
		v[3] ^= word;
		sip_round(v);
		sip_round(v);
		v[0] ^= word;
		offset += 8;
	}
	v[2] ^= 0xff;
	for (int i = 0; i < 4; i++)
		sip_round(v);
	return v[0] ^ v[1] ^ v[2] ^ v[3];
}
