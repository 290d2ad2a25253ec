/*
 * A page cache of a database: a few frames over a table of many pages.
 *
 * Each frame is a buffer of one lease over the whole table. A page that is not there is read by
 * fh_queue_fill into the frame that was used longest ago, which is moved there first; one that is
 * dirty is flushed before. Nothing is looked up and nothing is allocated on the way: the lease
 * knows where its blocks are. When somebody needs the table (a snapshot does), the cache is asked,
 * flushes, gives the lease back, and takes it again.
 *
 *     cc -pthread page_cache.c $(pkg-config --cflags --libs freehold) && ./a.out mem:64M
 */
#include <freehold.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { PAGE = 4096, PAGES = 1024, FRAMES = 16, SNAPSHOTS = 8 };

struct frame {
    fh_lease_buffer *buffer;
    uint64_t page;
    uint64_t used;
    int full, dirty;
};

struct cache {
    fh_session *session;
    fh_file *file;
    fh_lease *lease;
    fh_queue *queue;
    struct frame frames[FRAMES];
    uint64_t clock, hits, misses, recalls;
};

static void must(int code, const char *what) {
    if (code < 0) {
        fprintf(stderr, "%s: %s (%s)\n", what, fh_error_message(), fh_error_name(code));
        exit(1);
    }
}

/* Waits for the one operation that is in flight. */
static int64_t finish(struct cache *cache) {
    fh_completion done;
    while (fh_queue_poll(cache->queue, &done, 1) == 0) {
        must(fh_queue_wait(cache->queue, FH_FOREVER), "wait");
    }
    if (done.result < 0 && done.result != FH_ERECALLED && done.result != FH_EREVOKED) {
        fprintf(stderr, "page cache: %s\n", done.message);
    }
    return done.result;
}

/* Makes a frame's memory for each of the first pages; false if the lease went meanwhile. */
static int make_frames(struct cache *cache) {
    fh_lease_buffer_options memory;
    memset(&memory, 0, sizeof memory);
    memory.size = sizeof memory;
    memory.memory = FH_MEMORY_DMA;
    memory.length = PAGE;
    for (unsigned i = 0; i < FRAMES; i++) {
        struct frame *frame = &cache->frames[i];
        memory.offset = (uint64_t)i * PAGE;
        int code = fh_lease_buffer_new(cache->lease, &memory, &frame->buffer);
        if (code == FH_ERECALLED || code == FH_EREVOKED) {
            while (i-- > 0) {
                fh_lease_buffer_free(cache->frames[i].buffer);
            }
            return 0;
        }
        must(code, "buffer");
        frame->page = i;
        frame->used = 0;
        frame->full = frame->dirty = 0;
    }
    return 1;
}

/* Takes the lease, and memory for the frames. One that nothing uses yet is taken without asking:
 * then it is taken again. */
static void take(struct cache *cache) {
    int code;
    do {
        if (cache->lease == NULL) {
            code = fh_file_lease(cache->file, FH_WRITE, 0, FH_TO_END, NULL, &cache->lease);
        } else {
            code = fh_lease_reacquire(cache->lease);
        }
        /* The snapshot that wanted it may be about to notice that it has it: let it. */
        if (code == FH_EWOULDDEADLOCK) {
            usleep(50);
        } else {
            must(code, "lease");
        }
    } while (code != 0 || !make_frames(cache));
}

/* Writes what is dirty, in place. False if it cannot be any more. */
static int clean(struct cache *cache, struct frame *frame) {
    if (!frame->dirty) {
        return 1;
    }
    must(fh_queue_flush(cache->queue, frame->buffer, 0), "flush");
    if (finish(cache) < 0) {
        return 0;
    }
    frame->dirty = 0;
    return 1;
}

/* Gives the lease back: what is dirty is flushed through it, or, if it was taken meanwhile, written
 * in the ordinary way, which always works. */
static void give_back(struct cache *cache) {
    for (unsigned i = 0; i < FRAMES; i++) {
        struct frame *frame = &cache->frames[i];
        fh_buffer *saved = NULL;
        if (!clean(cache, frame)) {
            must(fh_lease_buffer_salvage(frame->buffer, &saved), "salvage");
            must(fh_file_write(cache->file, fh_buffer_address(saved), PAGE, frame->page * PAGE),
                 "write");
            fh_buffer_free(saved);
        } else {
            fh_lease_buffer_free(frame->buffer);
        }
    }
    must(fh_lease_return(cache->lease), "return");
}

/* Handles what the session was told: call it when its descriptor is readable, or now and then. */
static void attend(struct cache *cache) {
    fh_event events[8];
    int64_t n = fh_session_events(cache->session, events, 8);
    int asked = 0;
    must((int)n, "events");
    for (int64_t i = 0; i < n; i++) {
        asked |= events[i].kind != FH_EVENT_WITHDRAWN;
    }
    if (asked || fh_lease_state(cache->lease) >= (int)FH_LEASE_RECALLED) {
        cache->recalls++;
        give_back(cache);
        take(cache);
    }
}

/* A page, pinned for as long as the caller looks at it: make it short. */
static unsigned char *get(struct cache *cache, uint64_t page, int writes, fh_pin **pin) {
    for (;;) {
        struct frame *frame = NULL;
        void *address = NULL;
        for (unsigned i = 0; i < FRAMES; i++) {
            struct frame *f = &cache->frames[i];
            if (f->full && f->page == page) {
                frame = f;
                break;
            }
            if (frame == NULL || f->used < frame->used) {
                frame = f;
            }
        }
        if (!frame->full || frame->page != page) {
            cache->misses++;
            if (!clean(cache, frame)) {
                attend(cache);
                continue;
            }
            frame->full = 0;
            must(fh_lease_buffer_move(frame->buffer, page * PAGE), "move");
            frame->page = page;
            must(fh_queue_fill(cache->queue, frame->buffer, page), "fill");
            if (finish(cache) < 0) {
                attend(cache);
                continue;
            }
            frame->full = 1;
        } else {
            cache->hits++;
        }
        int code = fh_lease_buffer_pin(frame->buffer, writes ? FH_PIN_WRITE : 0, &address, pin);
        if (code == FH_ERECALLED || code == FH_EREVOKED) {
            attend(cache);
            continue;
        }
        must(code, "pin");
        frame->used = ++cache->clock;
        frame->dirty |= writes;
        return (unsigned char *)address;
    }
}

/* Takes snapshots, in constant time each. It needs the table: the cache is asked for it. */
static void *snapshots(void *of) {
    fh_store *store = (fh_store *)of;
    for (int i = 0; i < SNAPSHOTS; i++) {
        char name[32];
        int length = snprintf(name, sizeof name, "table@%d", i);
        must(fh_store_reflink(store, "table", 5, name, (size_t)length, NULL), "reflink");
        usleep(2000);
    }
    return NULL;
}

int main(int argc, char **argv) {
    fh_format_options format;
    fh_store *store = NULL;
    struct cache cache;
    uint64_t draw = 1;
    pthread_t others;
    unsigned char counts[PAGES];
    memset(&cache, 0, sizeof cache);
    memset(counts, 0, sizeof counts);
    memset(&format, 0, sizeof format);
    format.size = sizeof format;
    format.bytes = argc > 1 && strncmp(argv[1], "file:", 5) == 0 ? 64u << 20 : 0;
    must(fh_store_format(argc > 1 ? argv[1] : "mem:64M", &format, &store), "format");
    must(fh_session_new(store, &cache.session), "session");
    must(fh_session_create(cache.session, "table", 5, &cache.file), "create");
    must(fh_file_truncate(cache.file, (uint64_t)PAGES * PAGE), "truncate");
    must(fh_queue_new(store, 8, &cache.queue), "queue");
    take(&cache);
    if (pthread_create(&others, NULL, snapshots, store) != 0) {
        return 1;
    }

    for (unsigned i = 0; i < 20000; i++) {
        fh_pin *pin = NULL;
        draw = draw * 6364136223846793005u + 1442695040888963407u;
        /* Most of it goes to few pages. */
        uint64_t page = (draw >> 33) % (draw >> 20 & 3 ? FRAMES / 2 : PAGES);
        unsigned char *bytes = get(&cache, page, 1, &pin);
        bytes[page % PAGE]++;
        fh_unpin(pin);
        counts[page]++;
        if (i % 64 == 0) {
            attend(&cache);
        }
    }
    /* The snapshots may want it still. */
    give_back(&cache);
    pthread_join(others, NULL);
    fh_lease_free(cache.lease);
    must(fh_file_sync(cache.file), "sync");
    for (uint64_t page = 0; page < PAGES; page++) {
        unsigned char byte = 0;
        must((int)fh_file_read(cache.file, &byte, 1, page * PAGE + page % PAGE), "read");
        if (byte != counts[page]) {
            fprintf(stderr, "page %u: %u, not %u\n", (unsigned)page, byte, counts[page]);
            return 1;
        }
    }
    printf("%u hits, %u misses, asked for its lease %u times\n", (unsigned)cache.hits,
           (unsigned)cache.misses, (unsigned)cache.recalls);
    fh_queue_free(cache.queue);
    fh_file_free(cache.file);
    fh_session_free(cache.session);
    must(fh_store_close(store), "close");
    return 0;
}
