/* A forked child owns nothing: it is told so, frees nothing, and its parent notices nothing. */
#include "check.h"
#include <sys/wait.h>
#include <unistd.h>

int main(int argc, char **argv) {
    fh_store *store = made_store(uri_of(argc, argv)), *another = NULL;
    fh_file *file = made_file(store, "f", 7, 65536);
    fh_session *session = NULL;
    fh_queue *queue = NULL;
    fh_buffer *buffer = NULL;
    fh_lease *lease = NULL;
    fh_lease_buffer *memory = NULL;
    fh_pin *pin = NULL, *more = NULL;
    fh_seal *seal = NULL;
    fh_registration *none = NULL;
    fh_completion done[4];
    fh_event events[1];
    unsigned char byte = 0;
    int status = 0;
    SIZED(fh_lease_buffer_options, dma);
    OK(fh_store_session(store, &session));
    OK(fh_queue_new(store, 4, &queue));
    OK(fh_buffer_new(queue, FH_MEMORY_AUTO, 4096, &buffer));
    OK(fh_file_lease(file, FH_READ, 0, FH_TO_END, NULL, &lease));
    dma.memory = FH_MEMORY_DMA;
    OK(fh_lease_buffer_new(lease, &dma, &memory));
    OK(fh_lease_buffer_pin(memory, 0, NULL, &pin));
    OK(fh_file_seal(file, FH_SEAL_SHRINK, 0, FH_TO_END, NULL, &seal));
    OK(fh_queue_read(queue, file, 0, buffer, 1));

    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        alarm(20);
        FAILS(FH_EFORKED, fh_store_open("mem:16M", NULL, &another));
        FAILS(FH_EFORKED, fh_store_format("mem:16M", NULL, &another));
        FAILS(FH_EFORKED, fh_store_sync(store));
        FAILS(FH_EFORKED, fh_store_close(store));
        FAILS(FH_EFORKED, fh_store_leases(store, NULL, 0));
        FAILS(FH_EFORKED, fh_file_read(file, &byte, 1, 0));
        FAILS(FH_EFORKED, fh_file_write(file, &byte, 1, 0));
        FAILS(FH_EFORKED, fh_file_size(file));
        FAILS(FH_EFORKED, fh_session_events(session, events, 1));
        FAILS(FH_EFORKED, fh_session_event_fd(session));
        FAILS(FH_EFORKED, fh_queue_read(queue, file, 0, buffer, 2));
        FAILS(FH_EFORKED, fh_queue_sync(queue, file, 2));
        FAILS(FH_EFORKED, fh_queue_poll(queue, done, 4));
        FAILS(FH_EFORKED, fh_queue_wait(queue, 0));
        FAILS(FH_EFORKED, fh_queue_adopt(queue));
        FAILS(FH_EFORKED, fh_lease_state(lease));
        FAILS(FH_EFORKED, fh_lease_return(lease));
        FAILS(FH_EFORKED, fh_lease_buffer_pin(memory, 0, NULL, &more));
        FAILS(FH_EFORKED, fh_pin_load(pin, 0, &byte, 1));
        FAILS(FH_EFORKED, fh_seal_kinds(seal));
        FAILS(FH_EFORKED, fh_seal_clear(seal));
        FAILS(FH_EFORKED, fh_lease_register(lease, NULL, NULL, &none));
        FAILS(FH_EFORKED, fh_queue_read(NULL, file, 0, buffer, 2));
        fh_unpin(pin);
        fh_lease_buffer_free(memory);
        fh_lease_free(lease);
        fh_seal_free(seal);
        fh_buffer_free(buffer);
        fh_queue_free(queue);
        fh_session_free(session);
        fh_file_free(file);
        fh_store_free(store);
        _exit(0);
    }
    CHECK(waitpid(child, &status, 0) == child);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);

    while (fh_queue_poll(queue, done, 4) == 0) {
        OK(fh_queue_wait(queue, FH_FOREVER));
    }
    CHECK(done[0].user_data == 1 && done[0].result == 4096);
    CHECK(((unsigned char *)fh_buffer_address(buffer))[4095] == 7);
    OK(fh_pin_load(pin, 0, &byte, 1));
    CHECK(fh_seal_kinds(seal) == (int)FH_SEAL_SHRINK);
    CHECK(fh_lease_state(lease) == (int)FH_LEASE_HELD);
    fh_unpin(pin);
    fh_lease_buffer_free(memory);
    fh_lease_free(lease);
    CHECK(fh_seal_clear(seal) == 1);
    fh_buffer_free(buffer);
    fh_queue_free(queue);
    fh_session_free(session);
    fh_file_free(file);
    OK(fh_store_close(store));
    return 0;
}
