/* Many threads: each with a queue, a session and a range of its own, all pinning one buffer, while
 * one of them takes the range away again and again. */
#include "check.h"
#include <pthread.h>

enum { THREADS = 8, ROUNDS = 200, BLOCK = 4096 };

static fh_store *store;
static fh_lease_buffer *shared;
static pthread_mutex_t sums = PTHREAD_MUTEX_INITIALIZER;
static unsigned pinned, refused;

static void *works(void *number) {
    unsigned me = (unsigned)(uintptr_t)number;
    fh_session *session = NULL;
    fh_file *file = NULL;
    fh_queue *queue = NULL;
    fh_buffer *buffer = NULL;
    fh_completion done[4];
    unsigned pins = 0, refusals = 0;
    OK(fh_session_new(store, &session));
    OK(fh_session_open_file(session, "shared", 6, &file));
    OK(fh_queue_new(store, 4, &queue));
    OK(fh_buffer_new(queue, FH_MEMORY_DMA, BLOCK, &buffer));
    unsigned char *bytes = (unsigned char *)fh_buffer_address(buffer);
    for (unsigned round = 0; round < ROUNDS; round++) {
        fh_pin *pin = NULL;
        void *address = NULL;
        memset(bytes, (int)(me + round), BLOCK);
        OK(fh_queue_write(queue, file, (uint64_t)me * BLOCK, buffer, round));
        int64_t n;
        while ((n = fh_queue_poll(queue, done, 4)) == 0) {
            OK(fh_queue_wait(queue, FH_FOREVER));
        }
        CHECK(n == 1 && done[0].result == BLOCK && done[0].user_data == round);
        unsigned char byte = 0;
        CHECK(fh_file_read(file, &byte, 1, (uint64_t)me * BLOCK + 9) == 1);
        CHECK(byte == (unsigned char)(me + round));
        int code = fh_lease_buffer_pin(shared, 0, &address, &pin);
        if (code == 0) {
            CHECK(*(volatile unsigned char *)address == 5);
            fh_unpin(pin);
            pins++;
        } else {
            CHECK(code == FH_ERECALLED || code == FH_EREVOKED || code == FH_EBUSY);
            refusals++;
        }
        if (me == 0 && round % 50 == 49) {
            fh_file *stable = NULL;
            /* Idle between two pins, it is taken; its holder does not take it again. */
            OK(fh_store_open_file(store, "stable", 6, &stable));
            OK(fh_file_write(stable, "\5", 1, 0));
            fh_file_free(stable);
        }
    }
    fh_buffer_free(buffer);
    fh_queue_free(queue);
    fh_file_free(file);
    fh_session_free(session);
    pthread_mutex_lock(&sums);
    pinned += pins, refused += refusals;
    pthread_mutex_unlock(&sums);
    return NULL;
}

int main(int argc, char **argv) {
    pthread_t threads[THREADS];
    fh_session *holder = NULL;
    fh_file *file = NULL;
    fh_lease *lease = NULL;
    store = made_store(uri_of(argc, argv));
    fh_file_free(made_file(store, "shared", 0, THREADS * BLOCK));
    fh_file_free(made_file(store, "stable", 5, BLOCK));
    OK(fh_session_new(store, &holder));
    OK(fh_session_open_file(holder, "stable", 6, &file));
    OK(fh_file_lease(file, FH_READ, 0, FH_TO_END, NULL, &lease));
    OK(fh_lease_buffer_new(lease, NULL, &shared));
    {
        /* On media without a window it is memory, filled once. */
        SIZED(fh_lease_buffer_info, about);
        OK(fh_lease_buffer_describe(shared, &about));
        if (!about.is_window) {
            fh_queue *queue = NULL;
            fh_completion done[1];
            OK(fh_queue_new(store, 1, &queue));
            OK(fh_queue_fill(queue, shared, 0));
            while (fh_queue_poll(queue, done, 1) == 0) {
                OK(fh_queue_wait(queue, FH_FOREVER));
            }
            fh_queue_free(queue);
        }
    }
    for (uintptr_t i = 0; i < THREADS; i++) {
        CHECK(pthread_create(&threads[i], NULL, works, (void *)i) == 0);
    }
    for (int i = 0; i < THREADS; i++) {
        CHECK(pthread_join(threads[i], NULL) == 0);
    }
    CHECK(pinned + refused == THREADS * ROUNDS && pinned > 0);
    fh_lease_buffer_free(shared);
    fh_lease_free(lease);
    fh_file_free(file);
    fh_session_free(holder);
    OK(fh_store_close(store));
    return 0;
}
