/* A parser of JSON for files that our assembler or LinuxKit's has written. */
#include "init.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { DEPTH_MAX = 32, SIZE_MAX_BYTES = 1 << 20 };

struct input {
    const char *at, *end;
    int depth;
};

static struct json *value(struct input *in);

static void skip_space(struct input *in) {
    while (in->at < in->end && strchr(" \t\r\n", *in->at))
        in->at++;
}

static bool take(struct input *in, char wanted) {
    skip_space(in);
    if (in->at == in->end || *in->at != wanted)
        return false;
    in->at++;
    return true;
}

static struct json *made(int kind) {
    struct json *new = calloc(1, sizeof *new);
    if (new)
        new->kind = kind;
    return new;
}

void json_free(struct json *v) {
    while (v) {
        struct json *next = v->next;
        json_free(v->first);
        free(v->key);
        free(v->text);
        free(v);
        v = next;
    }
}

static char *put_utf8(char *to, unsigned code) {
    if (code < 0x80) {
        *to++ = (char)code;
    } else if (code < 0x800) {
        *to++ = (char)(0xc0 | code >> 6);
        *to++ = (char)(0x80 | (code & 0x3f));
    } else if (code < 0x10000) {
        *to++ = (char)(0xe0 | code >> 12);
        *to++ = (char)(0x80 | (code >> 6 & 0x3f));
        *to++ = (char)(0x80 | (code & 0x3f));
    } else {
        *to++ = (char)(0xf0 | code >> 18);
        *to++ = (char)(0x80 | (code >> 12 & 0x3f));
        *to++ = (char)(0x80 | (code >> 6 & 0x3f));
        *to++ = (char)(0x80 | (code & 0x3f));
    }
    return to;
}

static bool hex4(struct input *in, unsigned *code) {
    if (in->end - in->at < 4)
        return false;
    char digits[5] = {in->at[0], in->at[1], in->at[2], in->at[3], 0}, *rest;
    *code = (unsigned)strtoul(digits, &rest, 16);
    in->at += 4;
    return !*rest;
}

/* The text of a string after its first quote; NULL: it is malformed. An escape is never shorter than
 * the bytes that it stands for. */
static char *string(struct input *in) {
    char *text = malloc((size_t)(in->end - in->at) + 1), *to = text;
    while (text && in->at < in->end && *in->at != '"') {
        if (*in->at != '\\') {
            *to++ = *in->at++;
            continue;
        }
        static const char names[] = "\"\\/bfnrt", meant[] = "\"\\/\b\f\n\r\t";
        const char *found = ++in->at < in->end ? strchr(names, *in->at) : NULL;
        unsigned code, low;
        if (found && *found) {
            *to++ = meant[found - names];
            in->at++;
        } else if (in->at < in->end && *in->at++ == 'u' && hex4(in, &code)) {
            if (code >= 0xd800 && code < 0xdc00 && in->end - in->at > 6 && in->at[0] == '\\' &&
                in->at[1] == 'u' && (in->at += 2, hex4(in, &low)))
                code = 0x10000 + ((code - 0xd800) << 10) + (low & 0x3ff);
            to = put_utf8(to, code ? code : 0xfffd); /* a NUL would end the text */
        } else {
            break;
        }
    }
    if (text && in->at < in->end && *in->at == '"') {
        in->at++;
        *to = 0;
        return text;
    }
    free(text);
    return NULL;
}

static struct json *members(struct input *in, int kind, char closing) {
    struct json *whole = made(kind), **last = whole ? &whole->first : NULL;
    if (!whole || take(in, closing))
        return whole;
    do {
        char *key = NULL;
        if (kind == JSON_OBJECT && !(take(in, '"') && (key = string(in)) && take(in, ':'))) {
            free(key);
            json_free(whole);
            return NULL;
        }
        *last = value(in);
        if (!*last) {
            free(key);
            json_free(whole);
            return NULL;
        }
        (*last)->key = key;
        last = &(*last)->next;
    } while (take(in, ','));
    if (take(in, closing))
        return whole;
    json_free(whole);
    return NULL;
}

static struct json *word(struct input *in) {
    static const struct {
        const char *text;
        int kind;
    } words[] = {{"null", JSON_NULL}, {"false", JSON_FALSE}, {"true", JSON_TRUE}};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        size_t n = strlen(words[i].text);
        if ((size_t)(in->end - in->at) >= n && memcmp(in->at, words[i].text, n) == 0) {
            in->at += n;
            return made(words[i].kind);
        }
    }
    size_t n = 0;
    while (in->at + n < in->end && strchr("+-.0123456789eE", in->at[n]))
        n++;
    struct json *number = n ? made(JSON_NUMBER) : NULL;
    if (number)
        number->text = strndup(in->at, n);
    in->at += n;
    return number;
}

static struct json *value(struct input *in) {
    struct json *found = NULL;
    skip_space(in);
    if (in->at == in->end || ++in->depth > DEPTH_MAX)
        return NULL;
    if (take(in, '{')) {
        found = members(in, JSON_OBJECT, '}');
    } else if (take(in, '[')) {
        found = members(in, JSON_LIST, ']');
    } else if (take(in, '"')) {
        char *text = string(in);
        found = text ? made(JSON_STRING) : NULL;
        if (found)
            found->text = text;
        else
            free(text);
    } else {
        found = word(in);
    }
    in->depth--;
    return found;
}

struct json *json_read(const char *path) {
    struct stat status;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    char *data = NULL;
    struct json *found = NULL;
    if (fd < 0 || fstat(fd, &status) < 0 || status.st_size > SIZE_MAX_BYTES) {
        report("cannot read %s: %s", path, fd < 0 ? strerror(errno) : "it is too large");
    } else if ((data = malloc((size_t)status.st_size + 1))) {
        ssize_t n = read(fd, data, (size_t)status.st_size);
        struct input in = {data, data + (n > 0 ? n : 0), 0};
        found = value(&in);
        skip_space(&in);
        if (!found || in.at != in.end) {
            report("%s is not JSON: byte %zd", path, in.at - data);
            json_free(found);
            found = NULL;
        }
    }
    free(data);
    if (fd >= 0)
        close(fd);
    return found;
}

const struct json *json_get(const struct json *object, const char *key) {
    if (object && object->kind == JSON_OBJECT)
        for (const struct json *one = object->first; one; one = one->next)
            if (strcmp(one->key, key) == 0)
                return one;
    return NULL;
}

const char *json_text(const struct json *object, const char *key) {
    const struct json *found = json_get(object, key);
    return found && found->kind == JSON_STRING ? found->text : "";
}
