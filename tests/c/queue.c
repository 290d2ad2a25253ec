/* A polled queue at depth 32: writes, reads, syncs, each checked by its cookie. */
#include "check.h"

enum { DEPTH = 32, BLOCKS = 512, BLOCK = 4096 };

static fh_queue *queue;
static fh_file *file;
static fh_buffer *buffers[DEPTH];
static unsigned char *memory[DEPTH];
static unsigned char version[BLOCKS];
static unsigned in_flight[DEPTH];

static unsigned draw(unsigned *state) {
    *state = *state * 1664525u + 1013904223u;
    return *state >> 8;
}

/* Polls until `most` are in flight at most; checks what comes back. */
static void reap(unsigned *flying, unsigned most) {
    fh_completion done[8];
    while (*flying > most) {
        int64_t n = fh_queue_poll(queue, done, 8);
        CHECK(n >= 0 && n <= 8);
        if (n == 0) {
            OK(fh_queue_wait(queue, FH_FOREVER));
        }
        for (int64_t i = 0; i < n; i++) {
            unsigned slot = (unsigned)(done[i].user_data >> 32);
            unsigned block = (unsigned)(done[i].user_data & 0x7fffffff) % BLOCKS;
            CHECK(done[i].message == NULL && done[i].result == BLOCK && in_flight[slot]);
            if ((done[i].user_data & 0x80000000u) != 0) {
                CHECK(memory[slot][0] == version[block] && memory[slot][4095] == version[block]);
            }
            in_flight[slot] = 0;
            --*flying;
        }
    }
}

static int submit(int round, int reads, unsigned block, unsigned slot, uint64_t cookie) {
    uint64_t at = (uint64_t)block * BLOCK;
    if (reads) {
        return fh_queue_read(queue, file, at, buffers[slot], cookie);
    }
    if (round % 7 != 0) {
        return fh_queue_write(queue, file, at, buffers[slot], cookie);
    }
    return fh_queue_write_durable(queue, file, at, buffers[slot], cookie);
}

int main(int argc, char **argv) {
    fh_store *store = made_store(uri_of(argc, argv));
    unsigned state = 1, flying = 0, busy[BLOCKS];
    fh_completion done[8];
    memset(busy, 0, sizeof busy);
    file = made_file(store, "f", 0, BLOCKS * BLOCK);
    OK(fh_queue_new(store, DEPTH, &queue));
    for (int i = 0; i < DEPTH; i++) {
        OK(fh_buffer_new(queue, FH_MEMORY_DMA, BLOCK, &buffers[i]));
        memory[i] = (unsigned char *)fh_buffer_address(buffers[i]);
    }
    for (int round = 0; round < 4000; round++) {
        unsigned slot = (unsigned)round % DEPTH, block = draw(&state) % BLOCKS;
        int reads = draw(&state) % 2 == 0, code;
        uint64_t cookie = (uint64_t)slot << 32 | (reads ? 0x80000000u : 0) | block;
        /* Nobody may say which of two on one block is first: one window, then all are reaped. */
        if (slot == 0) {
            reap(&flying, 0);
            memset(busy, 0, sizeof busy);
        }
        if (busy[block]++) {
            continue;
        }
        if (!reads) {
            memset(memory[slot], ++version[block], BLOCK);
        }
        while ((code = submit(round, reads, block, slot, cookie)) == FH_EAGAIN) {
            reap(&flying, flying - 1);
        }
        OK(code);
        in_flight[slot] = 1;
        flying++;
    }
    reap(&flying, 0);

    /* Syncs have no buffer; two at a time, told one by one. */
    OK(fh_queue_sync(queue, file, 1000));
    OK(fh_queue_sync(queue, file, 1001));
    unsigned seen = 0;
    while (seen != 3) {
        int64_t n = fh_queue_poll(queue, done, 1);
        CHECK(n >= 0);
        if (n == 1) {
            CHECK(done[0].result == 0 && done[0].user_data - 1000 < 2);
            seen |= 1u << (done[0].user_data - 1000);
        } else {
            OK(fh_queue_wait(queue, 1000000));
        }
    }
    CHECK(fh_queue_poll(queue, done, 8) == 0);

    for (unsigned block = 0; block < BLOCKS; block++) {
        unsigned char byte;
        CHECK(fh_file_read(file, &byte, 1, (uint64_t)block * BLOCK + 77) == 1);
        CHECK(byte == version[block]);
    }
    for (int i = 0; i < DEPTH; i++) {
        fh_buffer_free(buffers[i]);
    }
    fh_queue_free(queue);
    fh_file_free(file);
    OK(fh_store_close(store));
    return 0;
}
