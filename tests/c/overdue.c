/* A pin that is kept beyond the deadline: its window becomes inaccessible, a stale pointer faults,
 * and the program can tell what it hit. With `gentle` it does not touch the stale memory: under
 * tools that count that as an error of the program. */
#include "check.h"
#include <setjmp.h>
#include <signal.h>

static sigjmp_buf back;
static fh_window hit;
static int known;
static void *volatile touched;

static void on_fault(int number, siginfo_t *info, void *context) {
    (void)number, (void)context;
    memset(&hit, 0, sizeof hit);
    hit.size = sizeof hit;
    touched = info->si_addr;
    known = fh_window_at(info->si_addr, &hit);
    siglongjmp(back, 1);
}

int main(int argc, char **argv) {
    const char *uri = uri_of(argc, argv);
    int gentle = argc > 2 && strcmp(argv[2], "gentle") == 0;
    fh_store *store = made_store(uri);
    fh_file *mine = made_file(store, "f", 7, 65536), *theirs = NULL;
    fh_session *holder = NULL;
    fh_lease *lease = NULL;
    fh_lease_buffer *buffer = NULL;
    fh_pin *pin = NULL, *second = NULL;
    fh_lease_in_flight use[2];
    fh_event events[4];
    void *address = NULL;
    unsigned char byte;
    struct sigaction action;
    SIZED(fh_lease_options, how);
    SIZED(fh_lease_buffer_options, window);
    SIZED(fh_lease_info, info);
    SIZED(fh_window, there);
    SIZED(fh_space, space);

    OK(fh_store_set_lease_time(store, 1));
    OK(fh_session_new(store, &holder));
    OK(fh_session_open_file(holder, "f", 1, &theirs));
    how.max_hold_ms = 1;
    OK(fh_file_lease(theirs, FH_READ, 0, FH_TO_END, &how, &lease));
    OK(fh_lease_describe(lease, &info));
    window.flags = FH_BUFFER_CLOSES;
    OK(fh_lease_buffer_new(lease, &window, &buffer));
    OK(fh_lease_buffer_pin(buffer, 0, &address, &pin));
    volatile unsigned char *bytes = (volatile unsigned char *)address;
    CHECK(bytes[0] == 7 && bytes[65535] == 7);
    CHECK(fh_window_at((char *)address + 5000, &there) == 1);
    CHECK(there.lease == info.id && there.offset == 5000 && there.length == 65536);
    CHECK(fh_window_at(&byte, &there) == 0);

    /* The range is needed. Nobody answers, so it is taken, and the blocks are somebody else's
     * concern no more: the pin keeps them in quarantine. */
    OK(fh_file_punch(mine, 0, 65536));
    CHECK(fh_session_events(holder, events, 4) == 2);
    CHECK(events[0].kind == FH_EVENT_RECALL && events[1].kind == FH_EVENT_REVOKED);
    CHECK(fh_lease_state(lease) == (int)FH_LEASE_REVOKED);
    CHECK(fh_store_inflight(store, use, 2, NULL) == 1 && use[0].quarantine == 65536);
    OK(fh_store_space(store, &space));
    CHECK(space.quarantined == 65536);
    FAILS(FH_EREVOKED, fh_lease_buffer_pin(buffer, 0, NULL, &second));

    memset(&action, 0, sizeof action);
    action.sa_sigaction = on_fault;
    action.sa_flags = SA_SIGINFO;
    sigaction(SIGSEGV, &action, NULL);
    if (!gentle) {
        if (sigsetjmp(back, 1) == 0) {
            byte = bytes[5000];
            fprintf(stderr, "a stale pointer read %d\n", byte);
            return 1;
        }
        CHECK(touched == (char *)address + 5000);
        CHECK(known == 1 && hit.lease == info.id && hit.offset == 5000);
    } else {
        CHECK(fh_window_at((char *)address + 5000, &there) == 1 && there.lease == info.id);
    }

    /* Ordinary reads go on, and the pin ends as ever. */
    CHECK(fh_file_read(mine, &byte, 1, 5000) == 1 && byte == 0);
    fh_unpin(pin);
    fh_lease_buffer_free(buffer);
    CHECK(fh_window_at((char *)address + 5000, &there) == 0);
    fh_lease_free(lease);
    fh_file_free(theirs);
    fh_session_free(holder);
    OK(fh_store_space(store, &space));
    fh_file_free(mine);
    OK(fh_store_close(store));
    return 0;
}
