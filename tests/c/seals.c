/* Seals: set, in force for their own session, too, broken, cleared. */
#include "check.h"

int main(int argc, char **argv) {
    fh_store *store = made_store(uri_of(argc, argv));
    fh_file *file = made_file(store, "f", 1, 65536), *copy = NULL, *theirs = NULL;
    fh_session *other = NULL;
    fh_seal *seal = NULL;
    fh_holding held[4];
    fh_extent before[4], after[4];
    fh_event events[4];
    SIZED(fh_seal_options, options);
    CHECK(fh_store_info(store, NULL) < 0);

    OK(fh_file_seal(file, FH_SEAL_LAYOUT | FH_SEAL_SHRINK, 0, FH_TO_END, NULL, &seal));
    CHECK(fh_seal_kinds(seal) == (int)(FH_SEAL_LAYOUT | FH_SEAL_SHRINK));
    FAILS(FH_ESEALED, fh_file_truncate(file, 0));
    OK(fh_file_write(file, "in place", 8, 0));
    CHECK(fh_store_leases(store, held, 4) == 1);
    CHECK(held[0].id == (uint64_t)fh_seal_id(seal) && held[0].kinds == 3 && held[0].access == 0);
    CHECK(held[0].age_ns == FH_NO_TIME && held[0].state == FH_LEASE_HELD);

    /* What it is for: a reflink whose map stays, while the file goes on. */
    CHECK(fh_seal_clear(seal) == 1);
    FAILS(FH_EBADF, fh_seal_clear(seal));
    OK(fh_file_reflink(file, "copy", 4, &copy));
    OK(fh_file_seal(copy, FH_SEAL_LAYOUT, 0, FH_TO_END, NULL, &seal));
    int64_t n = fh_file_iomap(copy, 0, FH_TO_END, before, 4);
    OK(fh_file_write(file, "moved away", 10, 8192));
    CHECK(fh_file_iomap(copy, 0, FH_TO_END, after, 4) >= n);
    CHECK(after[0].address == before[0].address);
    fh_seal_free(seal);

    /* Another session's, that can be asked for back. */
    OK(fh_session_new(store, &other));
    OK(fh_session_open_file(other, "f", 1, &theirs));
    options.flags = FH_SEAL_BREAKABLE;
    OK(fh_store_set_lease_time(store, 5));
    OK(fh_file_seal(theirs, FH_SEAL_WRITE, 0, 4096, &options, &seal));
    OK(fh_file_write(file, "x", 1, 0));
    CHECK(fh_session_events(other, events, 4) == 2);
    CHECK(events[0].kind == FH_EVENT_RECALL && events[0].id == (uint64_t)fh_seal_id(seal));
    CHECK(events[1].kind == FH_EVENT_REVOKED);
    CHECK(fh_seal_kinds(seal) == 0);
    CHECK(fh_seal_clear(seal) == 0);

    FAILS(FH_EINVAL, fh_file_seal(file, 0, 0, FH_TO_END, NULL, &seal));
    FAILS(FH_EINVAL, fh_file_seal(file, 64, 0, FH_TO_END, NULL, &seal));
    fh_file_free(theirs);
    OK(fh_session_end(other));
    fh_session_free(other);
    fh_file_free(copy);
    fh_file_free(file);
    OK(fh_store_close(store));
    return 0;
}
