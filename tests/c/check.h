/* What the tests in C share: checks that say where they failed, and stores to work on. */
#ifndef CHECK_H
#define CHECK_H

#include <freehold.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Fails the program, with what the library said. */
#define CHECK(that)                                                                            \
    do {                                                                                       \
        if (!(that)) {                                                                         \
            fprintf(stderr, "%s:%d: %s: %s\n", __FILE__, __LINE__, #that, fh_error_message()); \
            exit(1);                                                                           \
        }                                                                                      \
    } while (0)

/* The call succeeds. */
#define OK(call) CHECK((call) == 0)

/* The call fails with that code, and says why. */
#define FAILS(code, call)                                                                     \
    do {                                                                                      \
        long long got_ = (long long)(call);                                                   \
        if (got_ != (code)) {                                                                 \
            fprintf(stderr, "%s:%d: %s gave %lld, not %s: %s\n", __FILE__, __LINE__, #call,   \
                    got_, #code, fh_error_message());                                         \
            exit(1);                                                                          \
        }                                                                                     \
        CHECK(fh_error_message()[0] != '\0');                                                 \
    } while (0)

/* A struct that knows its size. */
#define SIZED(type, name) \
    type name;            \
    memset(&name, 0, sizeof name); \
    name.size = (uint32_t)sizeof name

static inline size_t length_of(const char *text) { return strlen(text); }

/* The URI of the store that the test was given, or one in memory. */
static inline const char *uri_of(int argc, char **argv) {
    return argc > 1 ? argv[1] : "mem:64M";
}

static inline fh_store *made_store(const char *uri) {
    fh_store *store = NULL;
    SIZED(fh_format_options, options);
    if (strncmp(uri, "mem:", 4) != 0) {
        options.bytes = 64u << 20;
    }
    options.flags = FH_FORMAT_FORCE;
    OK(fh_store_format(uri, &options, &store));
    CHECK(store != NULL);
    return store;
}

static inline fh_file *made_file(fh_store *store, const char *name, unsigned char byte,
                                 size_t bytes) {
    fh_file *file = NULL;
    unsigned char *data = (unsigned char *)malloc(bytes + 1);
    CHECK(data != NULL);
    memset(data, byte, bytes);
    OK(fh_store_create(store, name, length_of(name), &file));
    OK(fh_file_write(file, data, bytes, 0));
    OK(fh_file_sync(file));
    free(data);
    return file;
}

#endif
