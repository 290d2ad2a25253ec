/* A registration: its action runs at the deadline, may end handles, and may call nothing else of
 * its store; one that fails is called again. */
#include "check.h"

struct card {
    fh_store *store;
    fh_pin *pin;
    int calls, fails;
    int said;
};

static int deregister(void *context) {
    struct card *card = (struct card *)context;
    card->calls++;
    card->said = fh_store_sync(card->store);
    fh_unpin(card->pin);
    card->pin = NULL;
    return card->calls <= card->fails ? -1 : 0;
}

int main(int argc, char **argv) {
    fh_store *store = made_store(uri_of(argc, argv));
    fh_file *mine = made_file(store, "f", 7, 65536), *theirs = NULL;
    fh_session *holder = NULL;
    fh_lease *lease = NULL;
    fh_lease_buffer *buffer = NULL;
    fh_registration *registration = NULL;
    fh_extent map[4];
    struct card card;
    SIZED(fh_lease_options, how);
    SIZED(fh_lease_buffer_options, dma);
    memset(&card, 0, sizeof card);
    card.store = store;
    how.max_hold_ms = 1;
    OK(fh_store_set_lease_time(store, 1));
    OK(fh_session_new(store, &holder));
    OK(fh_session_open_file(holder, "f", 1, &theirs));

    /* Ended by its owner: the action is not called. */
    OK(fh_file_lease(theirs, FH_READ, 0, FH_TO_END, &how, &lease));
    OK(fh_lease_register(lease, deregister, &card, &registration));
    CHECK(fh_registration_extents(registration, map, 4) >= 1 && map[0].address != FH_NOWHERE);
    CHECK(fh_registration_end(registration) == 1 && card.calls == 0);

    /* Overdue: it is called, with a pin beside it. */
    dma.memory = FH_MEMORY_DMA;
    OK(fh_lease_buffer_new(lease, &dma, &buffer));
    OK(fh_lease_buffer_pin(buffer, 0, NULL, &card.pin));
    OK(fh_lease_register(lease, deregister, &card, &registration));
    OK(fh_file_truncate(mine, 0));
    CHECK(card.calls == 1 && card.said == FH_EWOULDDEADLOCK && card.pin == NULL);
    CHECK(fh_registration_end(registration) == 0);
    fh_lease_buffer_free(buffer);
    fh_lease_free(lease);

    /* It fails once: who waits gets Busy; the next one calls it again. */
    OK(fh_file_truncate(mine, 65536));
    card.calls = 0, card.fails = 1;
    OK(fh_file_lease(theirs, FH_READ, 0, FH_TO_END, &how, &lease));
    OK(fh_lease_register(lease, deregister, &card, &registration));
    fh_registration_free(registration);
    fh_lease_free(lease);
    FAILS(FH_EBUSY, fh_file_truncate(mine, 0));
    OK(fh_file_truncate(mine, 0));
    CHECK(card.calls == 2);

    fh_file_free(theirs);
    fh_session_free(holder);
    fh_file_free(mine);
    OK(fh_store_close(store));
    return 0;
}
