/* The emitters: one row for each kind of kernel. Whoever lists kinds expands CG_KERNELS; a kind without its emitter does not
 * link. */
#ifndef MOSSC_CODEGEN_LLVM_KERNELS_H
#define MOSSC_CODEGEN_LLVM_KERNELS_H

#include "codegen/llvm/emit.h"

#define CG_KERNELS(ROW)                                                                                                            \
    ROW(PG_EMBED, cg_emit_embed, "embed")                                                                                          \
    ROW(PG_NORM, cg_emit_norm, "norm")                                                                                             \
    ROW(PG_MAP, cg_emit_map, "map")                                                                                                \
    ROW(PG_ROUTE, cg_emit_route, "route")                                                                                          \
    ROW(PG_GROUP, cg_emit_group, "group")                                                                                          \
    ROW(PG_COMBINE, cg_emit_combine, "combine")                                                                                    \
    ROW(PG_CONV, cg_emit_conv, "conv")                                                                                             \
    ROW(PG_SCAN, cg_emit_scan, "scan")                                                                                             \
    ROW(PG_KV_STORE, cg_emit_kv_store, "kv_store")                                                                                 \
    ROW(PG_ATTEND, cg_emit_attend, "attend")                                                                                       \
    ROW(PG_ELEMENTWISE, cg_emit_elementwise, "elementwise")                                                                        \
    ROW(PG_SLICE, cg_emit_slice, "slice")                                                                                          \
    ROW(PG_SOFTMAX, cg_emit_softmax, "softmax")                                                                                    \
    ROW(PG_SELECT, cg_emit_select, "select")                                                                                       \
    ROW(PG_GATES, cg_emit_gates, "gates")                                                                                          \
    ROW(PG_MIX, cg_emit_mix, "mix")                                                                                                \
    ROW(PG_OUTER, cg_emit_outer, "outer")                                                                                          \
    ROW(PG_INJECT, cg_emit_inject, "inject")                                                                                       \
    ROW(PG_RECUR, cg_emit_recur, "recur")                                                                                          \
    ROW(PG_CONTRACT, cg_emit_contract, "contract")

#define CG_DECLARE(kind, emitter, name) void emitter(CgEmit *e);
CG_KERNELS(CG_DECLARE)
#undef CG_DECLARE

#endif
