/* Reads the text form of a graph (ir/print.c writes it):
 *
 *   graph     = "graph" "@"NAME ("naive" | "fused") "{" item* "}"
 *   item      = "spec" HASH | "max_positions" NUMBER
 *             | ("tokens" | "positions") "%"NAME ":" type
 *             | "weight" constant ":" type  |  "state" "@"NAME ":" type
 *             | node  |  "region" KIND STRING "{" node* ["roles" role*] ["row" role*] "}"
 *             | "next" "@"NAME "=" "%"NAME  |  "logits" "%"NAME
 *   node      = "%"NAME ("," "%"NAME)* "=" OP [value ("," value)*] ["{" (ATTR "=" NUMBER)* "}"]
 *               ":" type ("," type)* ["block" NUMBER] ["!" NUMBER ":" NUMBER]
 *   role      = ROLE "=" value       (the value may be defined below the region)
 *   value     = "%"NAME | constant
 *   constant  = ["neg_exp"] "@"NAME
 *   type      = DTYPE "[" dim ("," dim)* "]"        dim = "rows" | [DIMROLE ":"] NUMBER
 *
 * A NAME is made of letters, digits and . _ - ; a HASH of 32 hexadecimal digits; # begins a comment that ends with the line. A node without ! gets the span of
 * its own line. The text may come from anyone: every count is bounded by the text's size, nothing recurses, and what is read is
 * safe to print and to verify; whether it makes sense is for ir_verify to say. The first error ends the reading. */
#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "ir/internal.h"
#include "ir/names.h"

enum { MAX_SIZE = 64 << 20, MAX_WORD = 200 };

static const char expected_type[] = "expected a type: "
#define IR_DTYPE(name, NAME, file, bytes, group, group_bytes, over, over_bytes, mma, most) #name ", "
#include "ir/dtype.def"
                                    "i32, then its dimensions in []";

typedef enum TokenKind { END, WORD, LOCAL, GLOBAL, STRING, SIGN } TokenKind;

typedef struct Token {
    TokenKind kind;
    char sign;       /* SIGN: the character */
    const char *text; /* LOCAL, GLOBAL, STRING: without % @ "" ; in the arena */
    SuSpan span;
} Token;

/* A role whose value is looked up when all are known. */
typedef struct PendingRole {
    int32_t region;
    IrRole role;
    bool local;
    const char *name; /* as the table of its kind holds it */
    SuSpan span;
} PendingRole;

typedef struct Parser {
    const SuSource *source;
    SuDiags *diags;
    SuArena *arena;
    size_t at;
    uint32_t line, column;
    Token token;   /* the next one, not yet taken */
    IrGraph *g;
    IrNames locals; /* % names */
    int32_t region;
    PendingRole *pending;
    size_t n_pending, pending_capacity;
} Parser;

/* ---------------------------------------------------------------------------------------------- tokens */

static char peek(const Parser *p) { return p->at < p->source->size ? p->source->text[p->at] : '\0'; }

static void skip(Parser *p) {
    if (peek(p) == '\n') {
        p->line++;
        p->column = 0;
    }
    if (((unsigned char)peek(p) & 0xc0) != 0x80) p->column++; /* columns count characters */
    p->at++;
}

static void skip_blanks(Parser *p) {
    while (p->at < p->source->size && (isspace((unsigned char)peek(p)) || peek(p) == '#')) {
        if (peek(p) != '#') {
            skip(p);
            continue;
        }
        while (p->at < p->source->size && peek(p) != '\n') skip(p);
    }
}

static bool is_name_char(char c) { return isalnum((unsigned char)c) || (c != '\0' && strchr("._-+", c) != NULL); }

/* An error at a place, at the next token. False by itself, so that the compiler knows that nothing was read. */
#define FAIL_AT(p, span, ...) (su_error((p)->diags, (span), NULL, __VA_ARGS__), false)
#define FAIL(p, ...) FAIL_AT(p, (p)->token.span, __VA_ARGS__)

static bool read_name(Parser *p) {
    size_t start = p->at;
    while (is_name_char(peek(p))) skip(p);
    if (p->at == start) return FAIL(p, "a name must follow");
    if (p->at - start > MAX_WORD) return FAIL(p, "this name is too long");
    p->token.text = su_strndup(p->arena, p->source->text + start, p->at - start);
    return true;
}

static bool read_string(Parser *p) {
    size_t start = p->at;
    while (p->at < p->source->size && peek(p) != '"' && !iscntrl((unsigned char)peek(p))) skip(p);
    if (peek(p) != '"') return FAIL(p, "this string does not end on its line");
    p->token.text = su_strndup(p->arena, p->source->text + start, p->at - start);
    skip(p);
    return true;
}

/* Moves to the next token. */
static bool advance(Parser *p) {
    skip_blanks(p);
    size_t start = p->at;
    p->token = (Token){.kind = END, .span = {p->source, p->line, p->column, 1}};
    if (p->at >= p->source->size) return true;
    char c = peek(p);
    bool ok = true;
    if (is_name_char(c)) {
        p->token.kind = WORD;
        ok = read_name(p);
    } else {
        skip(p);
        p->token.kind = c == '%' ? LOCAL : c == '@' ? GLOBAL : c == '"' ? STRING : SIGN;
        p->token.sign = c;
        if (p->token.kind == STRING) ok = read_string(p);
        if (p->token.kind == LOCAL || p->token.kind == GLOBAL) ok = read_name(p);
    }
    p->token.span.length = (uint32_t)(p->at - start);
    return ok;
}

static bool at_word(const Parser *p, const char *word) { return p->token.kind == WORD && strcmp(p->token.text, word) == 0; }
static bool at_sign(const Parser *p, char sign) { return p->token.kind == SIGN && p->token.sign == sign; }

static bool take_sign(Parser *p, char sign) {
    if (!at_sign(p, sign)) return FAIL(p, "expected '%s'", (char[]){sign, '\0'});
    return advance(p);
}

static bool take_name(Parser *p, TokenKind kind, const char *what, const char **out_name) {
    if (p->token.kind != kind) return FAIL(p, "expected %s", what);
    *out_name = p->token.text;
    return advance(p);
}

static bool take_integer(Parser *p, int64_t *out) {
    if (p->token.kind != WORD) return FAIL(p, "expected an integer");
    char *end;
    errno = 0;
    *out = strtoll(p->token.text, &end, 10);
    if (errno != 0 || *end != '\0') return FAIL(p, "%s is not an integer", p->token.text);
    return advance(p);
}

static bool take_real(Parser *p, double *out) {
    if (p->token.kind != WORD) return FAIL(p, "expected a number");
    char *end;
    *out = strtod(p->token.text, &end);
    if (*end != '\0' || !isfinite(*out)) return FAIL(p, "%s is not a finite number", p->token.text);
    return advance(p);
}

/* ---------------------------------------------------------------------------------------------- types and values */

static bool parse_dim(Parser *p, IrType *type) {
    if (type->rank == IR_MAX_RANK) return FAIL(p, "a type has at most four dimensions");
    int64_t dim = IR_R;
    if (at_word(p, "rows")) {
        if (type->rank > 0) return FAIL(p, "only the first dimension can be rows");
        type->role[type->rank] = IR_DIM_ROW;
        if (!advance(p)) return false;
    } else {
        for (int role = 0; role < IR_DIM_COUNT; role++)
            if (*ir_dim_word((IrDim)role) && at_word(p, ir_dim_word((IrDim)role))) type->role[type->rank] = (uint8_t)role;
        if (type->role[type->rank] != IR_DIM_UNKNOWN && (!advance(p) || !take_sign(p, ':'))) return false;
        SuSpan span = p->token.span;
        if (!take_integer(p, &dim)) return false;
        if (dim < 1 || dim > (int64_t)1 << 48) return FAIL_AT(p, span, "a dimension is between 1 and 2^48");
    }
    type->dim[type->rank++] = dim;
    return true;
}

static bool parse_type(Parser *p, IrType *out) {
    *out = (IrType){.dtype = IR_F32};
    int dtype = 0;
    while (dtype < IR_DTYPES && !at_word(p, ir_dtype_word((IrDtype)dtype))) dtype++;
    if (dtype == IR_DTYPES) return FAIL(p, "%s", expected_type);
    out->dtype = (IrDtype)dtype;
    if (!advance(p) || !take_sign(p, '[') || !parse_dim(p, out)) return false;
    while (at_sign(p, ','))
        if (!advance(p) || !parse_dim(p, out)) return false;
    return take_sign(p, ']');
}

/* "neg_exp"? "@"NAME, as the table of the graph holds it. */
static bool parse_constant(Parser *p, bool *out_neg_exp, const char **out_name, IrNameSlot **out_slot) {
    *out_neg_exp = at_word(p, "neg_exp");
    if (*out_neg_exp && !advance(p)) return false;
    if (!take_name(p, GLOBAL, "@ and the name of a weight or state", out_name)) return false;
    *out_slot = ir_names_at(p->g->named, *out_neg_exp ? su_printf(p->arena, "neg_exp %s", *out_name) : *out_name);
    return true;
}

static bool parse_value(Parser *p, IrValueId *out) {
    SuSpan span = p->token.span;
    const char *name;
    IrNameSlot *slot;
    if (p->token.kind == LOCAL) {
        if (!take_name(p, LOCAL, "a value", &name)) return false;
        slot = ir_names_at(&p->locals, name);
    } else {
        bool neg_exp;
        if (!parse_constant(p, &neg_exp, &name, &slot)) return false;
    }
    if (slot->number == IR_NONE) return FAIL_AT(p, span, "%s is not defined above", name);
    *out = slot->number;
    return true;
}

/* ---------------------------------------------------------------------------------------------- nodes */

static bool parse_op(Parser *p, IrOp *out) {
    *out = IR_OP_COUNT;
    for (int op = 0; op < IR_OP_COUNT; op++) {
        if (!at_word(p, ir_op_info((IrOp)op)->name)) continue;
        *out = (IrOp)op;
        return advance(p);
    }
    return FAIL(p, "expected the name of an operation");
}

static bool parse_operands(Parser *p, const IrOpInfo *info, IrValueId *operands, int *out_n) {
    *out_n = 0;
    bool more = p->token.kind == LOCAL || p->token.kind == GLOBAL || at_word(p, "neg_exp");
    while (more) {
        if (*out_n == info->max_operands) return FAIL(p, "%s takes fewer operands", info->name);
        if (!parse_value(p, &operands[(*out_n)++])) return false;
        more = at_sign(p, ',');
        if (more && !advance(p)) return false;
    }
    if (*out_n < info->min_operands) return FAIL(p, "%s takes more operands", info->name);
    return true;
}

/* Flags that are 0 may be left out, and all of it where nothing is left. */
static bool parse_attrs(Parser *p, const IrOpInfo *info, IrAttr *attrs) {
    const int first_flag = info->n_attrs - info->n_flags;
    if (info->n_attrs == 0 || (first_flag == 0 && !at_sign(p, '{'))) return true;
    if (!take_sign(p, '{')) return false;
    for (int i = 0; i < info->n_attrs; i++) {
        if (i >= first_flag && !at_word(p, info->attr_names[i])) continue;
        if (!at_word(p, info->attr_names[i])) return FAIL(p, "expected the attribute %s", info->attr_names[i]);
        if (!advance(p) || !take_sign(p, '=')) return false;
        if (!(info->attr_is_real[i] ? take_real(p, &attrs[i].f) : take_integer(p, &attrs[i].i))) return false;
    }
    return take_sign(p, '}');
}

static bool parse_block(Parser *p, IrNode *node) {
    SuSpan span = p->token.span;
    int64_t block;
    if (!at_word(p, "block")) return true;
    if (!advance(p) || !take_integer(p, &block)) return false;
    if (block < 0 || block > INT32_MAX) return FAIL_AT(p, span, "block does not exist");
    node->block = (int32_t)block;
    return true;
}

static bool parse_span(Parser *p, IrNode *node) {
    SuSpan span = p->token.span;
    int64_t line, column;
    if (!at_sign(p, '!')) return true;
    if (!advance(p) || !take_integer(p, &line) || !take_sign(p, ':') || !take_integer(p, &column)) return false;
    if (line < 1 || line > UINT32_MAX || column < 0 || column > UINT32_MAX) return FAIL_AT(p, span, "operand does not exist");
    node->span = (SuSpan){NULL, (uint32_t)line, (uint32_t)column, 0};
    return true;
}

/* The names before "=": defined only behind the node, since it cannot use them. */
static bool parse_results(Parser *p, Token *names, int *out_n) {
    *out_n = 0;
    bool more = true;
    while (more) {
        if (p->token.kind != LOCAL) return FAIL(p, "expected %% and the name of a result");
        if (*out_n == IR_MAX_RESULTS) return FAIL(p, "too many results");
        names[(*out_n)++] = p->token;
        if (!advance(p)) return false;
        more = at_sign(p, ',');
        if (more && !advance(p)) return false;
    }
    return take_sign(p, '=');
}

static bool define_local(Parser *p, const Token *name, IrValueId id) {
    IrNameSlot *slot = ir_names_at(&p->locals, name->text);
    if (slot->number != IR_NONE) return FAIL_AT(p, name->span, "%%%s is defined twice", name->text);
    slot->number = id;
    return true;
}

static bool parse_node_results(Parser *p, size_t node_id, const Token *names, int n) {
    if (!take_sign(p, ':')) return false;
    for (int i = 0; i < n; i++) {
        IrType type;
        if ((i > 0 && !take_sign(p, ',')) || !parse_type(p, &type)) return false;
        IrValueId id = ir_append_value(p->g, IR_RESULT, names[i].text, type);
        p->g->values[id].node = (IrNodeId)node_id;
        p->g->values[id].result = i;
        p->g->nodes[node_id].results[i] = id;
        if (!define_local(p, &names[i], id)) return false;
    }
    return true;
}

static bool parse_node(Parser *p) {
    SuSpan span = p->token.span;
    Token names[IR_MAX_RESULTS];
    int n_results, n;
    IrOp op;
    IrValueId operands[IR_MAX_OPERANDS];
    IrAttr attrs[IR_MAX_ATTRS] = {{0}};
    if (!parse_results(p, names, &n_results) || !parse_op(p, &op)) return false;
    const IrOpInfo *info = ir_op_info(op);
    if (!parse_operands(p, info, operands, &n) || !parse_attrs(p, info, attrs)) return false;
    if (n_results != ir_result_count(info, n)) return FAIL_AT(p, span, "%s has another number of results", info->name);
    IrNode *node = ir_append_node(p->g, op, operands, n, attrs);
    node->span = span;
    node->region = p->region;
    if (!parse_node_results(p, p->g->n_nodes - 1, names, n_results)) return false;
    return parse_block(p, node) && parse_span(p, node);
}

static bool parse_role(Parser *p, bool row) {
    int role = 0;
    while (role < IR_ROLE_COUNT && !at_word(p, ir_role_info((IrRole)role)->name)) role++;
    if (role == IR_ROLE_COUNT || ir_role_info((IrRole)role)->row != row)
        return FAIL(p, "expected a role for '%s', got %s", row ? "row" : "roles", p->token.text);
    PendingRole pending = {.region = p->region, .role = (IrRole)role, .span = p->token.span};
    if (!advance(p) || !take_sign(p, '=')) return false;
    bool neg_exp = at_word(p, "neg_exp");
    if (neg_exp && !advance(p)) return false;
    pending.local = !neg_exp && p->token.kind == LOCAL;
    if (!pending.local && p->token.kind != GLOBAL) return FAIL(p, "expected a value");
    pending.name = neg_exp ? su_printf(p->arena, "neg_exp %s", p->token.text) : p->token.text;
    p->pending = su_grow(p->arena, p->pending, &p->pending_capacity, p->n_pending + 1, sizeof *p->pending);
    p->pending[p->n_pending++] = pending;
    return advance(p);
}

static bool parse_roles(Parser *p, const char *word, bool row) {
    if (!at_word(p, word)) return true;
    if (!advance(p)) return false;
    while (p->token.kind == WORD && !at_word(p, "row"))
        if (!parse_role(p, row)) return false;
    return true;
}

static bool resolve_roles(Parser *p) {
    for (size_t i = 0; i < p->n_pending; i++) {
        const PendingRole *pending = &p->pending[i];
        IrValueId value = ir_names_at(pending->local ? &p->locals : p->g->named, pending->name)->number;
        IrValueId *role = &p->g->regions[pending->region].roles.of[pending->role];
        if (value == IR_NONE) return FAIL_AT(p, pending->span, "%s is not defined", pending->name);
        if (*role != IR_NONE) return FAIL_AT(p, pending->span, "duplicate role");
        *role = value;
    }
    return true;
}

static bool parse_region(Parser *p) {
    int kind = 0;
    while (kind < IR_REGION_KINDS && !at_word(p, ir_region_word((IrRegionKind)kind))) kind++;
    if (kind == IR_REGION_KINDS) return FAIL(p, "expected the kind of a region");
    const char *name;
    if (!advance(p) || !take_name(p, STRING, "the name of the region in quotes", &name) || !take_sign(p, '{')) return false;
    IrGraph *g = p->g;
    g->regions = su_grow(g->arena, g->regions, &g->regions_capacity, g->n_regions + 1, sizeof *g->regions);
    g->regions[g->n_regions] = (IrRegion){(IrRegionKind)kind, name, ir_no_roles()};
    p->region = (int32_t)g->n_regions++;
    while (!at_sign(p, '}') && !at_word(p, "roles") && !at_word(p, "row"))
        if (!parse_node(p)) return false;
    if (!parse_roles(p, "roles", false) || !parse_roles(p, "row", true)) return false;
    if (!at_sign(p, '}')) return FAIL(p, "expected a node, roles, row or }");
    p->region = IR_NONE;
    return advance(p);
}

/* ---------------------------------------------------------------------------------------------- the graph */

/* The words that begin an item. Each function finds the token behind its word. */

static bool parse_input(Parser *p, IrValueId id) {
    Token name = p->token;
    const char *text;
    if (!take_name(p, LOCAL, "% and a name", &text) || !define_local(p, &name, id)) return false;
    p->g->values[id].name = text;
    return take_sign(p, ':') && parse_type(p, &p->g->values[id].type);
}

static bool parse_tokens(Parser *p) { return parse_input(p, p->g->tokens); }
static bool parse_positions(Parser *p) { return parse_input(p, p->g->positions); }

static bool parse_declaration(Parser *p, IrValueKind kind) {
    SuSpan span = p->token.span;
    bool neg_exp;
    const char *name;
    IrNameSlot *slot;
    IrType type;
    if (!parse_constant(p, &neg_exp, &name, &slot)) return false;
    if (slot->number != IR_NONE) return FAIL_AT(p, span, "@%s is defined twice", name);
    if (neg_exp && kind == IR_STATE) return FAIL_AT(p, span, "a state is never transformed");
    if (!take_sign(p, ':') || !parse_type(p, &type)) return false;
    slot->number = ir_append_value(p->g, kind, name, type);
    p->g->values[slot->number].transform = neg_exp ? IR_NEG_EXP : IR_AS_IS;
    return true;
}

static bool parse_weight(Parser *p) { return parse_declaration(p, IR_WEIGHT); }
static bool parse_state(Parser *p) { return parse_declaration(p, IR_STATE); }

static bool parse_next(Parser *p) {
    SuSpan span = p->token.span;
    IrValueId state, next;
    if (!parse_value(p, &state) || !take_sign(p, '=') || !parse_value(p, &next)) return false;
    IrValue *value = &p->g->values[state];
    if (value->kind != IR_STATE) return FAIL_AT(p, span, "next wants a state");
    if (value->next != IR_NONE) return FAIL_AT(p, span, "@%s is set twice", value->name);
    if (p->g->values[next].kind != IR_RESULT) return FAIL_AT(p, span, "a state is set to a result");
    value->next = next;
    return true;
}

static bool parse_logits(Parser *p) {
    SuSpan span = p->token.span;
    if (p->g->logits != IR_NONE) return FAIL_AT(p, span, "logits are defined twice");
    if (!parse_value(p, &p->g->logits)) return false;
    if (p->g->values[p->g->logits].kind != IR_RESULT) return FAIL_AT(p, span, "the logits are a result");
    return true;
}

static int hex_digit(char c) { return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1; }

static bool parse_spec(Parser *p) {
    const char *text = p->token.text;
    if (p->token.kind != WORD || strlen(text) != 2 * sizeof p->g->spec_hash)
        return FAIL(p, "expected the hash of a spec: 32 hexadecimal digits");
    for (size_t i = 0; i < sizeof p->g->spec_hash; i++) {
        int high = hex_digit(text[2 * i]), low = hex_digit(text[2 * i + 1]);
        if (high < 0 || low < 0) return FAIL(p, "the hash of a spec is of digits and a to f, got %s", text);
        p->g->spec_hash[i] = (uint8_t)(high << 4 | low);
    }
    return advance(p);
}

static bool parse_max_positions(Parser *p) {
    SuSpan span = p->token.span;
    if (!take_integer(p, &p->g->max_positions)) return false;
    return (p->g->max_positions > 0 && p->g->max_positions <= INT32_MAX) ||
           FAIL_AT(p, span, "max_positions must be between 1 and 2^31 - 1");
}

static bool parse_item(Parser *p) {
    static const struct {
        const char *word;
        bool (*parse)(Parser *p);
    } items[] = {{"spec", parse_spec},     {"max_positions", parse_max_positions},
                 {"tokens", parse_tokens}, {"positions", parse_positions},
                 {"weight", parse_weight}, {"state", parse_state},
                 {"region", parse_region}, {"next", parse_next},
                 {"logits", parse_logits}};
    if (p->token.kind == LOCAL) return parse_node(p);
    for (size_t i = 0; i < sizeof items / sizeof *items; i++)
        if (at_word(p, items[i].word)) return advance(p) && items[i].parse(p);
    return FAIL(p, "expected a node, weight, state, region, next, logits or }");
}

static bool parse_graph(Parser *p) {
    const char *name;
    if (!at_word(p, "graph")) return FAIL(p, "expected graph");
    if (!advance(p) || !take_name(p, GLOBAL, "@ and the name of the graph", &name)) return false;
    p->g = ir_graph_new(p->arena, name);
    if (!at_word(p, "naive") && !at_word(p, "fused")) return FAIL(p, "expected naive or fused");
    p->g->level = at_word(p, "naive") ? IR_NAIVE : IR_FUSED;
    if (!advance(p) || !take_sign(p, '{')) return false;
    while (!at_sign(p, '}'))
        if (!parse_item(p)) return false;
    if (!advance(p) || !resolve_roles(p)) return false;
    for (size_t i = 0; i < p->g->n_nodes; i++) ir_settle_roles(p->g, &p->g->nodes[i]);
    return p->token.kind == END || FAIL(p, "nothing may follow the graph");
}

static IrGraph *parse_unguarded(SuArena *arena, const SuSource *source, SuDiags *diags) {
    Parser p = {.source = source, .diags = diags, .arena = arena, .line = 1, .column = 1, .region = IR_NONE};
    p.locals.arena = arena;
    if (source->size > MAX_SIZE) {
        su_error(diags, (SuSpan){.source = source}, NULL, "text of the graph exceeds 64 MiB");
        return NULL;
    }
    return advance(&p) && parse_graph(&p) ? p.g : NULL;
}

IrGraph *ir_parse(SuArena *arena, const SuSource *source, SuDiags *diags) {
    su_arena_settle(arena);
    SuGuard guard;
    if (SU_CAUGHT(&guard, diags, "parsing a graph")) return NULL;
    IrGraph *result = parse_unguarded(arena, source, diags);
    su_guard_end(&guard);
    return result;
}
