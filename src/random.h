/* Random numbers as functions of keys: draws, and the order of the rows. */

INLINE uint32_t mixed(uint32_t x, uint32_t key) {
    x = (x ^ key) * 0x9E3779B1u;
    x = (x ^ x >> 15) * 0x85EBCA77u;
    return x ^ x >> 13;
}

/* 64 bits that tell one stream of draws from another: of an epoch, or of a row in it. */
typedef struct {
    uint32_t a, b;
} fm_key;

/* 32 bits, as a function of a key and a place in its stream. */
INLINE uint32_t draw(fm_key key, uint32_t place) { return mixed(mixed(place, key.a), key.b); }

/* The key of a row, from that of the epoch. */
INLINE fm_key key_of(fm_key epoch, uint32_t row) {
    const fm_key other = {epoch.b, epoch.a};
    return (fm_key){draw(epoch, row), draw(other, row)};
}

/* A Feistel network (Luby & Rackoff 1988) permutes the numbers of `bits` bits, and those from n on are left out. Each
 * number is a function of its place alone, so that vectors of them are made at once: 0.4 ms for 200,000 rows, where
 * swapping them one by one takes 4. */
#define ROUNDS 6
#define SHUFFLED 256

static void shuffle(int64_t *order, const uint32_t *keys, ptrdiff_t n) {
    int low = 5, high = 5; /* a few rows are picked from 1024: so few bits would mix badly */
    while ((ptrdiff_t)1 << (low + high) < n) {
        if (low == high)
            low++;
        else
            high++;
    }
    const uint32_t low_bits = ((uint32_t)1 << low) - 1, high_bits = ((uint32_t)1 << high) - 1;
    for (ptrdiff_t done = 0, first = 0; done < n; first += SHUFFLED) {
        uint32_t numbers[SHUFFLED];
        int64_t kept[SHUFFLED];
        ptrdiff_t count = 0;
        for (int i = 0; i < SHUFFLED; i++) {
            uint32_t x = (uint32_t)(first + i), a = x & low_bits, b = x >> low;
            UNROLL for (int r = 0; r < ROUNDS; r += 2) {
                b ^= mixed(a, keys[r]) & high_bits;
                a ^= mixed(b, keys[r + 1]) & low_bits;
            }
            numbers[i] = b << low | a;
        }
        for (int i = 0; i < SHUFFLED; i++) {
            kept[count] = numbers[i];
            count += numbers[i] < n;
        }
        memcpy(order + done, kept, (size_t)count * sizeof *kept);
        done += count;
    }
}
