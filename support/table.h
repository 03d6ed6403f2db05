/* Tables indexed by an enum. */
#ifndef MOSSC_SUPPORT_TABLE_H
#define MOSSC_SUPPORT_TABLE_H

/* Behind a table that is declared without a length: it has a row for the enum's last value, so that no index is past its end. */
#define SU_TABLE_FULL(table, count)                                                                                                \
    _Static_assert(sizeof(table) / sizeof *(table) == (unsigned)(count), #table " has another length than its enum")

#endif
