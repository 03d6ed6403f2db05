/* Limits that lie too far away for a test to reach. Files that are compiled with MOSSC_SMALL_LIMITS have them near (tests/limits), so
 * that their edges happen. A limit that decides how memory is laid out is none of these: every file must agree on it. */
#ifndef MOSSC_SUPPORT_LIMITS_H
#define MOSSC_SUPPORT_LIMITS_H

#ifdef MOSSC_SMALL_LIMITS
#define SU_LIMIT(usual, small) (small)
#else
#define SU_LIMIT(usual, small) (usual)
#endif

#endif
