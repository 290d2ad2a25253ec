/* A store from format to close and back: files, names, maps, numbers. */
#include "check.h"

static void names(fh_store *store) {
    fh_entry entries[8];
    fh_file *file = NULL;
    const char *all[] = {"log/1", "log/2", "table"};
    for (int i = 0; i < 3; i++) {
        OK(fh_store_create(store, all[i], length_of(all[i]), &file));
        fh_file_free(file);
    }
    CHECK(fh_store_list(store, "", 0, '/', NULL, 0, entries, 8) == 2);
    CHECK(entries[0].is_prefix == 1 && entries[0].name_len == 4);
    CHECK(memcmp(entries[0].name, "log/", 4) == 0);
    CHECK(fh_store_list(store, "log/", 4, -1, "log/1", 5, entries, 8) == 1);
    CHECK(entries[0].name_len == 5 && memcmp(entries[0].name, "log/2", 5) == 0);
    CHECK(fh_store_list(store, "", 0, -1, NULL, 0, entries, 2) == 2);
    OK(fh_store_rename(store, "log/1", 5, "log/2", 5));
    FAILS(FH_ENOENT, fh_store_open_file(store, "log/1", 5, &file));
    FAILS(FH_EEXIST, fh_store_create(store, "table", 5, &file));
    FAILS(FH_EINVAL, fh_store_create(store, "", 0, &file));
    OK(fh_store_remove(store, "log/2", 5));
    OK(fh_store_remove(store, "table", 5));
}

static void ranges(fh_store *store) {
    fh_file *file = made_file(store, "ranges", 1, 40960), *copy = NULL;
    fh_extent map[8];
    fh_range diff[8];
    unsigned char data[8];
    fh_write writes[2];
    SIZED(fh_stat, stat);
    OK(fh_file_punch(file, 8192, 4096));
    CHECK(fh_file_iomap(file, 0, FH_TO_END, map, 8) == 3);
    CHECK(map[0].kind == FH_WRITTEN && map[0].length == 8192 && map[0].address != FH_NOWHERE);
    CHECK(map[1].kind == FH_HOLE && map[1].offset == 8192 && map[1].address == FH_NOWHERE);
    CHECK(fh_file_iomap(file, 0, FH_TO_END, NULL, 0) == 3);
    OK(fh_file_extent_at(file, 9000, &map[0]));
    CHECK(map[0].kind == FH_HOLE);

    OK(fh_file_reflink(file, "copy", 4, &copy));
    CHECK(fh_file_diff(file, copy, diff, 8) == 0);
    OK(fh_file_write(copy, "x", 1, 20481));
    CHECK(fh_file_diff(file, copy, diff, 8) == 1);
    CHECK(diff[0].offset == 20480 && diff[0].length == 4096);
    OK(fh_file_stat(copy, &stat));
    CHECK(stat.bytes == 40960 && stat.shared > 0 && stat.size == sizeof stat);

    memset(writes, 0, sizeof writes);
    writes[0].offset = 0, writes[0].data = "from: 90", writes[0].length = 8;
    writes[1].offset = 30000, writes[1].data = "to: 110", writes[1].length = 7;
    OK(fh_file_write_atomic(copy, writes, 2));
    CHECK(fh_file_read(copy, data, 8, 0) == 8 && memcmp(data, "from: 90", 8) == 0);
    writes[1].offset = 4;
    FAILS(FH_EINVAL, fh_file_write_atomic(copy, writes, 2));

    OK(fh_file_zero(copy, 0, 4096));
    OK(fh_file_collapse(copy, 4096, 4096));
    OK(fh_file_insert(copy, 0, 4096));
    CHECK(fh_file_size(copy) == 40960);
    OK(fh_file_allocate(copy, 40960, 8192));
    OK(fh_file_truncate(copy, 100));
    CHECK(fh_file_size(copy) == 100);
    OK(fh_file_reflink_range(file, 0, copy, 4096, 4096));
    CHECK(fh_file_read(copy, data, 8, 4096) == 8 && data[0] == 1);
    FAILS(FH_EINVAL, fh_file_collapse(copy, 1, 4096));
    OK(fh_file_defrag(file, 0, FH_TO_END, NULL));
    OK(fh_file_write_durable(copy, "durable", 7, 0));
    fh_file_free(copy);
    fh_file_free(file);
    OK(fh_store_reflink(store, "copy", 4, "again", 5, NULL));
    OK(fh_store_remove(store, "again", 5));
    OK(fh_store_remove(store, "copy", 4));
    OK(fh_store_remove(store, "ranges", 6));
}

static void numbers(fh_store *store, const char *uri) {
    char text[256];
    SIZED(fh_info, info);
    SIZED(fh_space, space);
    SIZED(fh_stats, stats);
    SIZED(fh_recovery, recovery);
    SIZED(fh_check_report, report);
    OK(fh_store_info(store, &info));
    CHECK(info.block_size == 4096 && info.version > 0 && info.atomic_max_bytes >= 1u << 20);
    OK(fh_store_space(store, &space));
    CHECK(space.total == info.blocks * 4096 && space.free > 0 && space.free < space.total);
    OK(fh_store_stats(store, &stats));
    CHECK(stats.device_writes > 0 || stats.stored_writes > 0);
    OK(fh_store_recovery(store, &recovery));
    CHECK(fh_store_check(store, &report, text, sizeof text) == 0);
    CHECK(report.findings == 0 && report.blocks > 0 && text[0] == '\0');
    CHECK(fh_store_uri(store, text, sizeof text) == (int64_t)length_of(uri));
    CHECK(strcmp(text, uri) == 0);
    CHECK(fh_store_uri(store, text, 4) == (int64_t)length_of(uri) && length_of(text) == 3);
    CHECK(fh_store_journal(store, text, sizeof text) == 0 && text[0] == '\0');
    CHECK(fh_store_device(store, text, sizeof text) >= 0);
    CHECK(fh_store_leases(store, NULL, 0) == 0);
    CHECK(fh_store_inflight(store, NULL, 0, NULL) == 0);
}

int main(int argc, char **argv) {
    const char *uri = uri_of(argc, argv);
    fh_store *store = made_store(uri), *again = NULL;
    fh_file *file;
    char data[16];
    names(store);
    ranges(store);
    numbers(store, uri);

    file = made_file(store, "kept", 7, 10000);
    CHECK(fh_file_read(file, data, sizeof data, 9990) == 10 && data[0] == 7);
    FAILS(FH_EBUSY, fh_store_close(store));
    OK(fh_store_sync(store));
    OK(fh_store_checkpoint(store));
    fh_file_free(file);
    OK(fh_store_close(store));
    FAILS(FH_EBADF, fh_store_sync(store));

    if (strncmp(uri, "mem:", 4) != 0) {
        SIZED(fh_open_options, options);
        OK(fh_store_open(uri, &options, &store));
        OK(fh_store_open(uri, NULL, &again));
        OK(fh_store_open_file(again, "kept", 4, &file));
        CHECK(fh_file_size(file) == 10000);
        fh_file_free(file);
        fh_store_free(again);
        OK(fh_store_close(store));
        options.flags = FH_OPEN_READ_ONLY;
        OK(fh_store_open(uri, &options, &store));
        FAILS(FH_EROFS, fh_store_create(store, "new", 3, &file));
        OK(fh_store_close(store));
    }
    FAILS(FH_ENOENT, fh_store_open("file:/nowhere/at/all", NULL, &store));
    CHECK(strcmp(fh_error_name(FH_ENOENT), "FH_ENOENT") == 0);
    CHECK(fh_error_place(NULL) == NULL && fh_version()[0] == '0');
    return 0;
}
