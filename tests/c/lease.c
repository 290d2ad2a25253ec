/* A lease, a recall, a return: one thread holds, another one needs the range. */
#include "check.h"
#include <errno.h>
#include <pthread.h>
#include <sys/epoll.h>
#include <unistd.h>

static fh_store *store;

/* Needs the range: waits until it is given back. */
static void *truncates(void *nothing) {
    fh_file *file = NULL;
    (void)nothing;
    OK(fh_store_open_file(store, "f", 1, &file));
    OK(fh_file_truncate(file, 4096));
    fh_file_free(file);
    return NULL;
}

/* Overwrites a part: bytes change, and no block moves. */
static void *reflinks(void *nothing) {
    fh_file *file = NULL;
    (void)nothing;
    OK(fh_store_open_file(store, "f", 1, &file));
    OK(fh_file_reflink(file, "snapshot", 8, NULL));
    fh_file_free(file);
    return NULL;
}

static void wait_for(fh_queue *queue, fh_completion *done) {
    int64_t n;
    while ((n = fh_queue_poll(queue, done, 1)) == 0) {
        OK(fh_queue_wait(queue, FH_FOREVER));
    }
    CHECK(n == 1);
}

static void wait_event(int loop, fh_session *session, fh_event *event, uint32_t kind) {
    struct epoll_event ready;
    for (;;) {
        int n = epoll_wait(loop, &ready, 1, 10000);
        CHECK(n == 1 || (n < 0 && errno == EINTR));
        /* It is readable at deadlines, too: then there may be no event. */
        int64_t told = fh_session_events(session, event, 1);
        CHECK(told >= 0);
        if (told == 1 && event->kind == kind) {
            return;
        }
    }
}

int main(int argc, char **argv) {
    fh_session *session = NULL, *helper = NULL;
    fh_file *file = NULL;
    fh_lease *lease = NULL, *part = NULL;
    fh_lease_buffer *buffer = NULL;
    fh_queue *queue = NULL;
    fh_pin *pin = NULL;
    fh_completion done[1];
    fh_event event;
    fh_extent map[4];
    fh_lease_in_flight use[2];
    void *bytes = NULL;
    char data[8];
    size_t side = 0;
    pthread_t thread;
    struct epoll_event wanted;
    SIZED(fh_lease_options, how);
    SIZED(fh_lease_info, info);
    SIZED(fh_lease_buffer_options, memory);
    SIZED(fh_lease_buffer_info, about);
    int code, loop = epoll_create1(EPOLL_CLOEXEC);
    store = made_store(uri_of(argc, argv));
    fh_file_free(made_file(store, "f", 1, 65536));
    OK(fh_store_set_lease_time(store, 10000));

    OK(fh_session_new(store, &session));
    CHECK(fh_session_id(session) == 2);
    memset(&wanted, 0, sizeof wanted);
    wanted.events = EPOLLIN;
    CHECK(epoll_ctl(loop, EPOLL_CTL_ADD, fh_session_event_fd(session), &wanted) == 0);
    OK(fh_session_open_file(session, "f", 1, &file));
    OK(fh_queue_new(store, 8, &queue));

    /* Take it, fill its memory, use it. */
    how.max_hold_ms = 1000;
    OK(fh_file_lease(file, FH_WRITE, 0, FH_TO_END, &how, &lease));
    OK(fh_lease_describe(lease, &info));
    CHECK(info.state == FH_LEASE_HELD && info.seq == 1 && info.end == 65536);
    CHECK(fh_lease_iomap(lease, map, 4) >= 1 && map[0].address == FH_NOWHERE);
    memory.memory = FH_MEMORY_DMA;
    memory.offset = 8192;
    memory.length = 8192;
    OK(fh_lease_buffer_new(lease, &memory, &buffer));
    OK(fh_queue_fill(queue, buffer, 11));
    FAILS(FH_EBUSY, fh_lease_buffer_pin(buffer, 0, &bytes, &pin));
    wait_for(queue, done);
    CHECK(done[0].user_data == 11 && done[0].result == 8192);
    OK(fh_lease_buffer_pin(buffer, FH_PIN_WRITE, &bytes, &pin));
    CHECK(((char *)bytes)[8191] == 1);
    CHECK(fh_pin_part(pin, 8000, &bytes, &side) == 0 && side == 192);
    OK(fh_pin_store(pin, 100, "changed", 7));
    OK(fh_pin_load(pin, 99, data, 8));
    CHECK(memcmp(data, "\1changed", 8) == 0);
    CHECK(fh_store_inflight(store, use, 2, NULL) == 1 && use[0].long_pins == 1);

    /* Somebody needs the range. It is in use, so we are asked. */
    CHECK(pthread_create(&thread, NULL, reflinks, NULL) == 0);
    wait_event(loop, session, &event, FH_EVENT_RECALL);
    CHECK(event.id == info.id && event.may_flush == 1 && event.grace_ns > 1000000000);
    CHECK(fh_lease_state(lease) == (int)FH_LEASE_RECALLED);
    fh_unpin(pin);
    FAILS(FH_ERECALLED, fh_lease_buffer_pin(buffer, 0, NULL, &pin));
    OK(fh_lease_buffer_describe(buffer, &about));
    CHECK(about.is_dirty == 1 && about.offset == 8192 && about.length == 8192);
    OK(fh_queue_flush(queue, buffer, 12));
    wait_for(queue, done);
    CHECK(done[0].user_data == 12 && done[0].result == 8192);
    OK(fh_lease_return(lease));
    CHECK(pthread_join(thread, NULL) == 0);
    CHECK(fh_file_read(file, data, 7, 8292) == 7 && memcmp(data, "changed", 7) == 0);

    /* The snapshot has it, too. Take it again; what is written now is in the file alone. */
    code = fh_lease_buffer_pin(buffer, 0, NULL, &pin);
    /* Whoever waited may have taken it before we returned it. */
    CHECK(code == FH_EREVOKED || code == FH_ERECALLED);
    fh_lease_buffer_free(buffer);
    OK(fh_lease_reacquire(lease));
    memory.offset = 0;
    OK(fh_lease_buffer_new(lease, &memory, &buffer));
    OK(fh_lease_buffer_pin(buffer, FH_PIN_WRITE, &bytes, &pin));
    memcpy(bytes, "lost", 5);

    /* A truncate takes away all of it: nothing is to be flushed, and nothing waits for it. */
    FAILS(FH_EBUSY, fh_lease_return_part(lease, 0, 8192));
    CHECK(pthread_create(&thread, NULL, truncates, NULL) == 0);
    wait_event(loop, session, &event, FH_EVENT_RECALL);
    fh_unpin(pin);
    OK(fh_queue_flush(queue, buffer, 13));
    wait_for(queue, done);
    CHECK(done[0].user_data == 13);
    CHECK(done[0].result == 8192 || (done[0].result < 0 && done[0].message[0] != '\0'));
    fh_lease_buffer_free(buffer);
    fh_lease_free(lease);
    CHECK(pthread_join(thread, NULL) == 0);
    CHECK(fh_file_size(file) == 4096);

    /* What is idle is taken without asking. A helper gets a part. */
    OK(fh_file_lease(file, FH_EXCLUSIVE, 0, 4096, NULL, &lease));
    OK(fh_session_new(store, &helper));
    OK(fh_lease_delegate(lease, helper, FH_READ, 0, 4096, &part));
    CHECK(fh_lease_state(lease) == (int)FH_LEASE_SUSPENDED);
    fh_lease_free(part);
    CHECK(fh_lease_state(lease) == (int)FH_LEASE_HELD);
    CHECK(pthread_create(&thread, NULL, truncates, NULL) == 0);
    CHECK(pthread_join(thread, NULL) == 0);
    OK(fh_store_recall(store));
    CHECK(fh_lease_state(lease) == (int)FH_LEASE_TAKEN);
    fh_lease_free(lease);

    fh_session_free(helper);
    fh_queue_free(queue);
    fh_file_free(file);
    fh_session_free(session);
    OK(fh_store_close(store));
    close(loop);
    return 0;
}
