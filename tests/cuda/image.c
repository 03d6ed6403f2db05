#include "image.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char cubin_magic[8] = "\177ELFmoss", ptx_magic[] = "//\n// PTX of an emulated GPU\n//\n.version 8.0\n.target sm_";

typedef struct Header {
    char magic[sizeof cubin_magic];
    int32_t architecture;
    uint32_t pad;
    uint64_t bytes, digest;
} Header;

static uint64_t digest_of(const uint8_t *data, size_t bytes) { /* FNV-1a */
    uint64_t digest = 0xcbf29ce484222325u;
    for (size_t i = 0; i < bytes; i++) digest = (digest ^ data[i]) * 0x100000001b3u;
    return digest;
}

static char *write_cubin(const Image *image, size_t *out_bytes) {
    Header header = {.architecture = image->architecture, .bytes = image->bytes, .digest = digest_of(image->code, image->bytes)};
    memcpy(header.magic, cubin_magic, sizeof header.magic);
    *out_bytes = sizeof header + image->bytes;
    char *data = malloc(*out_bytes);
    memcpy(data, &header, sizeof header);
    memcpy(data + sizeof header, image->code, image->bytes);
    return data;
}

/* The code in hexadecimal, since PTX is a text. */
static char *write_ptx(const Image *image, size_t *out_bytes) {
    char head[128];
    int size = snprintf(head, sizeof head, "%s%d\n%zu %llx\n", ptx_magic, image->architecture, image->bytes,
                        (unsigned long long)digest_of(image->code, image->bytes));
    *out_bytes = (size_t)size + 2 * image->bytes + 1;
    char *text = malloc(*out_bytes), *at = text + size;
    memcpy(text, head, (size_t)size);
    for (size_t i = 0; i < image->bytes; i++, at += 2) {
        at[0] = "0123456789abcdef"[image->code[i] >> 4];
        at[1] = "0123456789abcdef"[image->code[i] & 15];
    }
    *at = '\0';
    return text;
}

char *image_write(const Image *image, size_t *out_bytes) {
    return image->form == IMAGE_CUBIN ? write_cubin(image, out_bytes) : write_ptx(image, out_bytes);
}

static Image checked(Image image, uint64_t digest) {
    if (image.code == NULL || digest_of(image.code, image.bytes) == digest) return image;
    free(image.code);
    return (Image){0};
}

static Image read_cubin(const void *data) {
    Header header;
    memcpy(&header, data, sizeof header);
    Image image = {IMAGE_CUBIN, header.architecture, malloc(header.bytes), header.bytes};
    if (image.code != NULL) memcpy(image.code, (const uint8_t *)data + sizeof header, header.bytes);
    return checked(image, header.digest);
}

static int digit_of(char c) { return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1; }

static Image read_ptx(const char *text) {
    unsigned long long digest;
    int size = 0;
    Image image = {.form = IMAGE_PTX};
    if (sscanf(text + strlen(ptx_magic), "%d\n%zu %llx\n%n", &image.architecture, &image.bytes, &digest, &size) != 3)
        return (Image){0};
    text += strlen(ptx_magic) + size;
    if (strlen(text) != 2 * image.bytes) return (Image){0};
    image.code = malloc(image.bytes);
    for (size_t i = 0; i < image.bytes; i++) image.code[i] = (uint8_t)(digit_of(text[2 * i]) << 4 | digit_of(text[2 * i + 1]));
    return checked(image, digest);
}

Image image_read(const void *data) {
    if (strncmp(data, cubin_magic, sizeof cubin_magic) == 0) return read_cubin(data);
    if (strncmp(data, ptx_magic, strlen(ptx_magic)) == 0) return read_ptx(data);
    return (Image){0};
}
