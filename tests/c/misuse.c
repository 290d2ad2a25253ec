/* Misuse that can be told is told, and nothing happens. */
#include "check.h"
#include <pthread.h>

static fh_queue *theirs;

static void *elsewhere(void *nothing) {
    fh_completion done[1];
    (void)nothing;
    FAILS(FH_EWRONGTHREAD, fh_queue_poll(theirs, done, 1));
    FAILS(FH_EWRONGTHREAD, fh_queue_wait(theirs, 0));
    OK(fh_queue_adopt(theirs));
    CHECK(fh_queue_poll(theirs, done, 1) == 0);
    return NULL;
}

int main(int argc, char **argv) {
    fh_store *store = made_store(uri_of(argc, argv)), *none = NULL;
    fh_file *file = made_file(store, "f", 1, 16384), *freed = NULL;
    fh_queue *queue = NULL;
    fh_buffer *buffer = NULL;
    fh_lease *lease = NULL;
    fh_lease_buffer *memory = NULL;
    fh_pin *pin = NULL;
    fh_completion done[4];
    char data[16];
    pthread_t thread;
    SIZED(fh_info, info);
    SIZED(fh_lease_options, hold);
    struct {
        fh_open_options known;
        uint64_t later;
    } newer;

    /* Null pointers. */
    FAILS(FH_EFAULT, fh_store_open(NULL, NULL, &none));
    FAILS(FH_EFAULT, fh_store_open("mem:1M", NULL, NULL));
    FAILS(FH_EBADF, fh_store_sync(NULL));
    FAILS(FH_EFAULT, fh_store_create(store, NULL, 3, &file));
    FAILS(FH_EFAULT, fh_file_read(file, NULL, 3, 0));
    CHECK(fh_file_read(file, NULL, 0, 0) == 0);
    FAILS(FH_EFAULT, fh_store_info(store, NULL));
    FAILS(FH_EFAULT, fh_store_leases(store, NULL, 3));
    fh_store_free(NULL), fh_file_free(NULL), fh_queue_free(NULL), fh_unpin(NULL);
    fh_buffer_free(NULL), fh_lease_buffer_free(NULL), fh_lease_free(NULL), fh_seal_free(NULL);
    fh_session_free(NULL), fh_registration_free(NULL);

    /* Sizes of structs, and flags. */
    info.size = 3;
    FAILS(FH_EINVAL, fh_store_info(store, &info));
    hold.size = sizeof &hold;
    FAILS(FH_EINVAL, fh_file_lease(file, FH_READ, 0, FH_TO_END, &hold, &lease));
    memset(&newer, 0, sizeof newer);
    newer.known.size = sizeof newer;
    FAILS(FH_ENOENT, fh_store_open("file:/nowhere/at/all", &newer.known, &none));
    newer.later = 1;
    FAILS(FH_EINVAL, fh_store_open("file:/nowhere/at/all", &newer.known, &none));
    newer.later = 0;
    newer.known.flags = 1u << 31;
    FAILS(FH_EINVAL, fh_store_open("file:/nowhere/at/all", &newer.known, &none));
    FAILS(FH_EINVAL, fh_file_lease(file, 9, 0, FH_TO_END, NULL, &lease));
    FAILS(FH_EINVAL, fh_file_lease(file, FH_READ, 1, FH_TO_END - 1, NULL, &lease));
    FAILS(FH_EINVAL, fh_store_open("mem:x", NULL, &none));

    /* Handles that were freed, and those of another kind. */
    OK(fh_store_open_file(store, "f", 1, &freed));
    fh_file_free(freed);
    fh_file_free(freed);
    FAILS(FH_EBADF, fh_file_read(freed, data, 3, 0));
    FAILS(FH_EBADF, fh_file_size((fh_file *)(void *)store));
    FAILS(FH_EBADF, fh_file_size((fh_file *)(void *)data));
    OK(fh_store_open_file(store, "f", 1, &freed));
    CHECK(fh_file_size(freed) == 16384);
    fh_file_free(freed);

    /* Queues and buffers. */
    OK(fh_queue_new(store, 4, &queue));
    FAILS(FH_EINVAL, fh_queue_new(store, 0, &theirs));
    FAILS(FH_EINVAL, fh_buffer_new(queue, FH_MEMORY_WINDOW, 4096, &buffer));
    FAILS(FH_EINVAL, fh_buffer_new(queue, 77, 4096, &buffer));
    OK(fh_buffer_new(queue, FH_MEMORY_DMA, 1, &buffer));
    CHECK(fh_buffer_size(buffer) == 4096 && ((uintptr_t)fh_buffer_address(buffer) & 4095) == 0);
    CHECK(fh_buffer_address(NULL) == NULL && fh_buffer_size(NULL) == 0);
    FAILS(FH_EBADF, fh_queue_read(queue, freed, 0, buffer, 1));
    FAILS(FH_EBADF, fh_queue_read(queue, file, 0, NULL, 1));
    FAILS(FH_EBADF, fh_queue_read(NULL, file, 0, buffer, 1));
    FAILS(FH_EINVAL, fh_queue_wait(queue, -7));
    OK(fh_queue_read(queue, file, 0, buffer, 1));
    FAILS(FH_EBUSY, fh_queue_read(queue, file, 0, buffer, 2));
    /* Freed in flight: its completion comes all the same. */
    fh_buffer_free(buffer);
    fh_buffer_free(buffer);
    while (fh_queue_poll(queue, done, 4) == 0) {
        OK(fh_queue_wait(queue, FH_FOREVER));
    }
    CHECK(done[0].user_data == 1 && done[0].result == 4096 && done[0].message == NULL);
    FAILS(FH_EBADF, fh_queue_read(queue, file, 0, buffer, 1));
    FAILS(FH_EFAULT, fh_queue_poll(queue, NULL, 1));
    theirs = queue;
    CHECK(pthread_create(&thread, NULL, elsewhere, NULL) == 0);
    CHECK(pthread_join(thread, NULL) == 0);
    OK(fh_queue_adopt(queue));

    /* Buffers of leases, pins. */
    OK(fh_file_lease(file, FH_READ, 0, FH_TO_END, NULL, &lease));
    OK(fh_lease_buffer_new(lease, NULL, &memory));
    FAILS(FH_EFAULT, fh_lease_buffer_pin(memory, 0, NULL, NULL));
    OK(fh_lease_buffer_pin(memory, 0, NULL, &pin));
    FAILS(FH_EINVAL, fh_pin_load(pin, 16380, data, 8));
    FAILS(FH_EINVAL, fh_pin_store(pin, 0, data, 8));
    FAILS(FH_EBUSY, fh_queue_fill(queue, memory, 1));
    FAILS(FH_EBUSY, fh_lease_return(lease));
    FAILS(FH_EFAULT, fh_lease_register(lease, NULL, NULL, NULL));
    fh_unpin(pin);
    fh_unpin(pin);
    FAILS(FH_EBADF, fh_pin_load(pin, 0, data, 8));
    FAILS(FH_EINVAL, fh_queue_flush(queue, memory, 1));
    fh_lease_buffer_free(memory);
    OK(fh_lease_return(lease));
    OK(fh_lease_return(lease));
    fh_lease_free(lease);
    FAILS(FH_EBADF, fh_lease_state(lease));

    /* A queue that goes with a buffer in flight. */
    OK(fh_buffer_new(queue, FH_MEMORY_AUTO, 4096, &buffer));
    OK(fh_queue_read(queue, file, 0, buffer, 1));
    fh_queue_free(queue);
    FAILS(FH_EBADF, fh_queue_poll(queue, done, 4));
    OK(fh_queue_new(store, 4, &queue));
    FAILS(FH_EBADF, fh_queue_read(queue, file, 0, buffer, 1));
    fh_buffer_free(buffer);
    fh_queue_free(queue);
    fh_file_free(file);
    fh_store_free(store);
    return 0;
}
