/* Schedules of linear layers: what makes them faster or slower on a processor and changes no bit. Every target has defaults;
 * `mossc tune` measures others, and what was faster is stored beside the compiled kernels, an entry for each kernel and processor
 * (the form of codegen/cache.h, with the suffix ".schedule"). */
#ifndef MOSSC_CODEGEN_TUNING_H
#define MOSSC_CODEGEN_TUNING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "codegen/cache.h"
#include "codegen/target.h"

/* Zero in all kernels but PG_LINEAR; a PG_ROUTE has `ahead`. */
struct CgSchedule {
    int32_t panels; /* weight panels side by side: as many streams */
    int32_t span; /* PG_ROW: panels side by side lie so many apart, so that a stream goes on as long from tile to tile; else 1 */
    int32_t rows; /* of the microkernel; divides PG_ROW_BLOCK; 1 in PG_ROW */
    int32_t ahead; /* PG_ROW: bytes that every stream of weights is fetched ahead; 0: the processor sees to it */
    int32_t claim; /* bytes of weights that a claim of tiles reads at least (PG_ROW); else multiply-adds of 16 lanes at most */
    int32_t blocks; /* PG_BLOCK: row blocks of a tile, where they share weights; else 1 */
    int32_t
        tiles; /* PG_BLOCK with rounded inputs: 1: products by AMX (codegen/llvm/tiles.h), which wants 8 rows and at most 3 panels */
    int32_t run; /* PG_BLOCK: inputs that all rows of a tile take before the next ones; divides PG_SEGMENT_K */
};

CgSchedule cg_schedule_default(const CgTarget *target, const PgKernel *kernel);

enum { CG_MOST_SCHEDULES = 32 };
/* The schedules worth measuring, all different, the default first; how many. 1: there is nothing to choose. tiles: those with tiles
 * too, where the target has them, which come last: the others keep their places. */
unsigned cg_schedule_space(const CgTarget *target, const PgKernel *kernel, bool tiles, CgSchedule out[CG_MOST_SCHEDULES]);
/* Whether this process may run schedules with tiles of the target, of bytes or of bf16: the system must be asked for AMX. */
bool cg_may_use_tiles(const CgTarget *target);
bool cg_schedule_equal(const CgSchedule *a, const CgSchedule *b);
/* Whether the kernel makes floats of its weights before they are multiplied. */
static inline bool cg_widens(const PgKernel *kernel) { return ir_is_blocks(kernel->dtype) && !kernel->rounds; }
/* "8 panels, 512 bytes ahead, claims of 64 KiB"; at most `size` bytes. */
void cg_schedule_words(const PgKernel *kernel, const CgSchedule *schedule, char *out, size_t size);

/* What is known of a kernel. */
typedef struct CgTuned {
    CgSchedule best; /* the fastest that was measured */
    uint32_t measured; /* bits: schedules of the space, with tiles */
    uint32_t accepted; /* 1: `best` was measured again beside the default, and stayed faster: kernels are compiled so */
    double ratio; /* its time over the default's, then */
} CgTuned;

/* Entries of a directory; trimmed to 1 MiB and closed like any cache. Statistics are its own. */
CgCache *cg_tuning_open(const char *directory);
/* false: nothing is known, the entry is not to be believed (CgCacheStats.damaged), or it says what is impossible (not counted), as are
 * tiles where cg_may_use_tiles is false. */
bool cg_tuned_find(CgCache *tuning, const CgTarget *target, const PgKernel *kernel, CgTuned *out_tuned);
void cg_tuned_store(CgCache *tuning, const CgTarget *target, const PgKernel *kernel, const CgTuned *tuned);
/* schedules[n_kernels] that the program's kernels are compiled with: those accepted, else the defaults; how many of the former. */
uint32_t cg_tuned_schedules(CgCache *tuning, const CgTarget *target, const PgProgram *program, CgSchedule *schedules);
SuEntries cg_tuning_list(const char *directory);
size_t cg_tuning_clear(const char *directory);

/* The digest of what a measurement depends on: this build of mossc and LLVM, the target, the kernel (codegen/llvm/object.c). */
SuDigest cg_tuning_key(const CgTarget *target, const PgKernel *kernel);

#endif
