/*
 * The least that a program needs: what a packager compiles to see that header, pkg-config file and
 * library fit each other.
 *
 *     cc packaged.c $(pkg-config --cflags --libs freehold) && ./a.out
 */
#include <freehold.h>
#include <stdio.h>
#include <string.h>

int main(int argc, char **argv) {
    const char *uri = argc > 1 ? argv[1] : "mem:16M";
    fh_store *store = NULL;
    fh_file *file = NULL, *snapshot = NULL;
    char row[5];
    if (fh_store_format(uri, NULL, &store) != 0 || fh_store_create(store, "table", 5, &file) != 0 ||
        fh_file_write(file, "a row", 5, 8192) != 0 || fh_file_sync(file) != 0 ||
        fh_file_reflink(file, "table@monday", 12, &snapshot) != 0 ||
        fh_file_write(file, "A ROW", 5, 8192) != 0 || fh_file_read(snapshot, row, 5, 8192) != 5 ||
        memcmp(row, "a row", 5) != 0) {
        fprintf(stderr, "packaged: %s\n", fh_error_message());
        return 1;
    }
    fh_file_free(snapshot);
    fh_file_free(file);
    if (fh_store_close(store) != 0) {
        fprintf(stderr, "packaged: %s\n", fh_error_message());
        return 1;
    }
    printf("freehold %s\n", fh_version());
    return 0;
}
