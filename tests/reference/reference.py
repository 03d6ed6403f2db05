"""The spec language in NumPy, float64, written from docs/language.md alone and as plainly as it reads.

It shares nothing with mossc: it reads the YAML, applies the defaults, lists the tensors, counts parameters and computes logits.
Where it and mossc disagree, one of them (or the page) has a bug. Use: spec = Spec(path); logits, gap = spec.logits(tensors, tokens).
"""
import math

import numpy as np
from functions import ACTIVATIONS, GATED, heavy_tail, held_input, layer, rms, scaled, sigmoid, softmax, softplus
from tensors import Tensors, map_tensor, under


class Spec(Tensors):
    """What the model computes."""

    def logits(self, tensors, tokens):
        """[T, V], and the smallest gap between a chosen and an unchosen expert."""
        self.gap = math.inf
        w = {}
        for name, (shape, narrowed, _) in self.tensors().items():
            assert name not in tensors or tensors[name].shape == shape, (name, tensors[name].shape, shape)
            w[name] = self._weight(tensors, name, narrowed)
        x = self.embedding_scale * w["embed.weight"][np.asarray(tokens)]
        for i, (kind, b) in enumerate(self.blocks):
            at = f"blocks.{i}."
            u = np.array([self._normed(row, w, at + "norm", self.norm) for row in x])
            if kind == "parallel":
                y = sum(self._block(*branch, under(w, f"{at}branches.{j}."), u) for j, branch in enumerate(b["branches"]))
            elif kind == "share":
                y = self._share(b, w, at, u)
            else:
                y = self._block(kind, b, under(w, at), u)
            x = x + y
        head = w["embed.weight"] if self.tied else w["head.weight"]
        x = np.array([self._normed(row, w, "final_norm", self.final_norm) for row in x])
        return self.logit_scale * (x @ head.T), self.gap

    def _share(self, b, w, at, u):
        i, kind, keys = self._shared(b)
        mine = under(w, at)
        parts = under(w, f"blocks.{i}.") | mine
        for name in b.get("adapters", {}).get("targets", []):
            product = mine[f"adapters.{name}.B"] @ mine[f"adapters.{name}.A"]
            parts[map_tensor(name)] = parts[map_tensor(name)] + product
        return self._block(kind, keys, parts, u)

    def _block(self, kind, b, w, u):
        y = getattr(self, "_" + kind)(b, w, float(b.get("input_scale", 1.0)) * u)
        if "out_norm" in b:
            y = np.array([rms(row, float(self.norm["eps"]), w["out_norm.weight"]) for row in y])
        return float(b.get("output_scale", 1.0)) * y

    @staticmethod
    def _normed(x, w, name, norm):
        if norm["kind"] == "rms":
            return rms(x, float(norm["eps"]), w[name + ".weight"])
        return layer(x, float(norm["eps"]), w[name + ".weight"], w[name + ".bias"])

    def _route(self, b, w, rho):
        """The chosen experts, rising, and their gates."""
        router = b["router"]
        r = w["router.weight"] @ rho + w.get("router.bias", 0)
        p = softmax(r) if router["score"] == "softmax" else sigmoid(r)
        key = p + w["router.select_bias"] if router["select_bias"] else r
        order = np.argsort(-key, kind="stable")
        if "groups" in router:
            n, m = int(router["groups"]["count"]), int(router["groups"]["top"])
            score = np.sort(key.reshape(n, -1))[:, -2:].sum(axis=1)
            runs = np.argsort(-score, kind="stable")
            if m < n:
                self.gap = min(self.gap, score[runs[m - 1]] - score[runs[m]])
            order = order[np.isin(order // (len(key) // n), runs[:m])]
        k = int(router["top_k"])
        if k < len(order):
            self.gap = min(self.gap, key[order[k - 1]] - key[order[k]])
        S = np.sort(order[:k])
        g = p[S]
        if router["normalize"]:
            g = g / (g.sum() + 1e-20)
        return S, float(router["scale"]) * g

    def _mamba2(self, b, w, u):
        I, N, P, G, W = b["I"], b["N"], b["P"], b["G"], b["W"]
        H, act, experts = I // P, ACTIVATIONS[b["activation"]], b.get("experts")
        own = set(experts["per_expert"]) if experts else set()
        outputs = bool(experts) and experts["combine"] == "outputs"
        low, high = b["dt_limit"]
        group, A_all = np.arange(H) * G // H, -np.exp(w["A_log"])

        def norm(y):
            if "gated_norm.weight" not in w:
                return y
            runs = [rms(run, b["inner_norm_eps"], 1) for run in np.split(y, b["runs"])]
            return np.concatenate(runs) * w["gated_norm.weight"]

        def step(s, delta, bc, x, A, D):
            """The heads' states and outputs after a token."""
            B, C = bc.reshape(2, G, N)
            steps = np.clip(softplus(delta), float(low), None if high == "none" else float(high))
            held = held_input(b, steps, A)
            s = np.exp(steps * A)[:, None, None] * s + (held[:, None] * x)[:, :, None] * B[group][:, None, :]
            return s, ((s * C[group][:, None, :]).sum(axis=2) + D.reshape(H, -1) * x).reshape(I)

        many = int(experts["count"]) if outputs else 1
        states, past = np.zeros([many, H, P, N]), np.zeros([W - 1, I])
        pasts = np.zeros([many if outputs and "bc_proj" in own else 1, W - 1, 2 * G * N])
        out = np.zeros_like(u)
        for t in range(len(u)):
            S = g = None

            def P_of(part, tensor, e=None):
                """The value of a parameter of this token: an expert's, the mixture of the chosen, or the only one."""
                value = A_all if tensor == "A_log" else w.get(tensor, 0)
                if part not in own or tensor not in (w.keys()):
                    return value
                return value[e] if outputs else sum(gk * value[k] for k, gk in zip(S, g))

            def linear(part, v, e=None):
                return P_of(part, part + ".weight", e) @ v + P_of(part, part + ".bias", e)

            def conv(history, v, channels):
                seen = np.vstack([history, v[None]])
                bias = P_of("conv", "conv.bias")
                y = (P_of("conv", "conv.weight")[channels] * seen.T).sum(axis=1) + (bias[channels] if np.ndim(bias) else bias)
                return seen[1:], act(y)

            if experts and b["router"]["input"] == "block":
                S, g = self._route(b, w, u[t])
            past, x = conv(past, linear("in_proj", u[t]), slice(0, I))
            if experts and b["router"]["input"] == "inner":
                S, g = self._route(b, w, x)
            z, x = act(linear("gate_proj", u[t])), x.reshape(H, P)
            y = np.zeros(I)
            moving = range(many) if not outputs or experts["idle"] == "update" else S
            own_bc = outputs and "bc_proj" in own
            if not own_bc:
                pasts[0], bc = conv(pasts[0], linear("bc_proj", u[t]), slice(I, None))
            for e in moving:
                if own_bc:
                    pasts[e], bc = conv(pasts[e], linear("bc_proj", u[t], e), slice(I, None))
                states[e], ye = step(states[e], linear("dt_proj", u[t], e), bc, x, P_of("A", "A_log", e), P_of("D", "D", e))
                if not outputs:
                    y = ye
                elif e in S:
                    y = y + g[list(S).index(e)] * ye
            y = norm(y) * z if b.get("norm_before_gate") else norm(y * z)
            out[t] = linear("out_proj", y)
        return out

    def _mamba3(self, b, w, u):
        """Scalars first: one head and one rank after the other, the angles as complex numbers."""
        I, N, P, G, R, S, eps = b["I"], b["N"], b["P"], b["G"], b["ranks"], b["S"], b["inner_norm_eps"]
        H, silu = I // P, ACTIVATIONS["silu"]
        f = softplus if b.get("a_activation") == "softplus" else heavy_tail
        none = np.ones([H, R, P])
        mx, mz, mo = (w.get("mimo_" + name, none) for name in "xzo")
        state, angle = np.zeros([H, P, N]), np.zeros([H, S])
        v_last, k_last = np.zeros([H, R, P]), np.zeros([H, R, N])
        out = np.zeros_like(u)
        for t in range(len(u)):
            x, z = ((w[name] @ u[t]).reshape(H, P) for name in ("in_proj.weight", "gate_proj.weight"))
            B, C = (w["bc_proj.weight"] @ u[t]).reshape(2, R, G, N)
            step = softplus(w["dt_proj.weight"] @ u[t] + w["dt_proj.bias"])
            decay = np.minimum(-f(w["a_proj.weight"] @ u[t]), -float(b.get("a_floor", 1e-4)))
            part = sigmoid(w["trap_proj.weight"] @ u[t])
            angle = angle + math.pi * np.tanh(w["angle_proj.weight"] @ u[t])[None, :] * step[:, None]
            y = np.zeros([H, P])

            def turned(X, norm, bias, h, r):
                v = rms(X[r, h * G // H], eps, w[norm]) + w[bias][h, r]
                pairs = (v[: 2 * S : 2] + 1j * v[1 : 2 * S : 2]) * np.exp(1j * angle[h])
                v[: 2 * S : 2], v[1 : 2 * S : 2] = pairs.real, pairs.imag
                return v

            for h in range(H):
                alpha = np.exp(decay[h] * step[h])
                beta, gamma = (1 - part[h]) * step[h] * alpha, part[h] * step[h]
                k = np.array([turned(B, "b_norm.weight", "b_bias", h, r) for r in range(R)])
                v = x[h] * mx[h]
                state[h] = alpha * state[h] + beta * v_last[h].T @ k_last[h] + gamma * v.T @ k
                v_last[h], k_last[h] = v, k
                for r in range(R):
                    q = turned(C, "c_norm.weight", "c_bias", h, r)
                    of_rank = state[h] @ q + w["D"][h] * v[r]
                    if "head_norm.weight" in w:
                        of_rank = rms(of_rank, eps, w["head_norm.weight"].reshape(H, P)[h])
                    y[h] += mo[h, r] * of_rank * silu(z[h] * mz[h, r])
            out[t] = w["out_proj.weight"] @ y.reshape(I)
        return out

    def _ssm(self, b, w, u):
        if b["kind"] == "mamba3":
            return self._mamba3(b, w, u)
        if b["kind"] == "mamba2":
            return self._mamba2(b, w, u)
        I, N, R, W = b["I"], b["N"], b["R"], b["W"]
        act = ACTIVATIONS[b["activation"]]
        experts = b.get("experts")
        own = set(experts["per_expert"]) if experts else set()
        params = bool(experts) and experts["combine"] == "params"
        outputs = bool(experts) and not params
        A = -np.exp(w["A_log"])
        history = np.zeros([W, I])
        s = np.zeros([int(experts["count"]), I, N]) if outputs else np.zeros([I, N])
        out = np.zeros_like(u)
        for t in range(len(u)):
            S = g = None

            def P(part, tensor):
                """The value of a parameter of this token, None if it does not exist."""
                value = A if tensor == "A" else w.get(tensor)
                if value is not None and params and part in own:
                    value = sum(gk * value[k] for k, gk in zip(S, g))
                return value

            def linear(part, v):
                bias = P(part, part + ".bias")
                return P(part, part + ".weight") @ v + (0 if bias is None else bias)

            if experts and b["router"]["input"] == "block":
                S, g = self._route(b, w, u[t])
            history = np.vstack([history[1:], linear("in_proj", u[t])])
            bias = P("conv", "conv.bias")
            c = act((P("conv", "conv.weight") * history.T).sum(axis=1) + (0 if bias is None else bias))
            if experts and b["router"]["input"] == "inner":
                S, g = self._route(b, w, c)
            z = linear("gate_proj", u[t])

            def scan(state, x_proj, dt_weight, dt_bias, a, d):
                delta, B, C = np.split(x_proj @ c, [R, R + N])
                if "dt_norm" in b:
                    delta = rms(delta, b["inner_norm_eps"], w["dt_norm.weight"])
                if "b_norm" in b:
                    B = rms(B, b["inner_norm_eps"], w["b_norm.weight"])
                if "c_norm" in b:
                    C = rms(C, b["inner_norm_eps"], w["c_norm.weight"])
                step = softplus(dt_weight @ delta + dt_bias)
                held = held_input(b, step[:, None], a)
                state = np.exp(step[:, None] * a) * state + held * np.outer(c, B)
                return state, state @ C + d * c

            if outputs:
                y = np.zeros(I)
                for e in range(len(s)):
                    if e not in S and experts["idle"] == "hold":
                        continue

                    def mine(part, value):
                        return value[e] if part in own else value

                    s[e], ye = scan(s[e], mine("x_proj", w["x_proj.weight"]), mine("dt_proj", w["dt_proj.weight"]),
                                    mine("dt_proj", w["dt_proj.bias"]), mine("A", A), mine("D", w["D"]))
                    if e in S:
                        y = y + g[list(S).index(e)] * ye
            else:
                s, y = scan(s, P("x_proj", "x_proj.weight"), P("dt_proj", "dt_proj.weight"), P("dt_proj", "dt_proj.bias"),
                            P("A", "A"), P("D", "D"))
            out[t] = linear("out_proj", y * act(z))
        return out

    def _mlp(self, b, w, u):
        experts = b.get("experts")

        def f(v, prefix="", e=None):
            def linear(name, x):
                weight, bias = w[prefix + name + ".weight"], w.get(prefix + name + ".bias")
                if e is not None:
                    weight, bias = weight[e], None if bias is None else bias[e]
                return weight @ x + (0 if bias is None else bias)

            if b["activation"] in GATED:
                hidden = ACTIVATIONS[GATED[b["activation"]]](linear("gate_proj", v)) * linear("up_proj", v)
            else:
                hidden = ACTIVATIONS[b["activation"]](linear("up_proj", v))
            return linear("down_proj", hidden)

        if not experts:
            return np.array([f(v) for v in u])
        out = np.zeros_like(u)
        for t, v in enumerate(u):
            inner = w["latent_down_proj.weight"] @ v if experts["latent"] else v
            routed = sum(gate * f(inner, "", e) for e, gate in zip(*self._route(b, w, v)))
            shared = sum(f(v, "shared.", j) for j in range(experts["shared"]))
            if experts["shared_gate"] and experts["shared"]:
                shared = shared * sigmoid(w["shared_gate.weight"] @ v)
            out[t] = (w["latent_up_proj.weight"] @ routed if experts["latent"] else routed) + shared
        return out

    def _attention(self, b, w, u):
        H, Hkv, hd = b["H"], b["Hkv"], b["hd"]

        def linear(name, x):
            return x @ w[name + ".weight"].T + w.get(name + ".bias", 0)

        def rotated(x):
            if "rope" not in b:
                return x
            dim, theta = int(b["rope"]["dim"]), float(b["rope"]["theta"])
            half = dim // 2
            a = np.arange(len(x))[:, None, None] * scaled(theta ** (-2 * np.arange(half) / dim), b["rope"].get("scaling"))
            near, far = slice(0, half), slice(half, dim)
            if b["rope"]["pairing"] == "interleaved":
                near, far = slice(0, dim, 2), slice(1, dim, 2)
            out = x.copy()
            out[..., near] = x[..., near] * np.cos(a) - x[..., far] * np.sin(a)
            out[..., far] = x[..., far] * np.cos(a) + x[..., near] * np.sin(a)
            return out

        def normed(name, x):
            """[T, heads, hd]: over each head, or over all of them."""
            if "qk_norm" not in b:
                return x
            rows = x if b["qk_norm"] == "head" else x.reshape(len(x), 1, -1)
            eps = float(self.norm["eps"])
            return np.array([[rms(row, eps, w[name + ".weight"]) for row in heads] for heads in rows]).reshape(x.shape)

        def clipped(x):
            return np.clip(x, -float(b["qkv_clip"]), float(b["qkv_clip"])) if "qkv_clip" in b else x

        q = rotated(clipped(normed("q_norm", linear("q_proj", u).reshape(-1, H, hd))))
        k = rotated(clipped(normed("k_norm", linear("k_proj", u).reshape(-1, Hkv, hd))))
        v = clipped(linear("v_proj", u).reshape(-1, Hkv, hd))
        out = np.zeros([len(u), H * hd])
        for t in range(len(u)):
            first = max(0, t - int(b["window"]) + 1) if "window" in b else 0
            for h in range(H):
                kv = h * Hkv // H
                p = softmax(k[first : t + 1, kv] @ q[t, h] * b["scale"])
                out[t, h * hd : (h + 1) * hd] = p @ v[first : t + 1, kv]
        return linear("o_proj", out)

    def _shortconv(self, b, w, u):
        def linear(name, x):
            return x @ w[name + ".weight"].T + w.get(name + ".bias", 0)

        gated = linear("b_proj", u) * linear("in_proj", u)
        padded = np.vstack([np.zeros([b["W"] - 1, b["I"]]), gated])
        y = np.array([(w["conv.weight"] * padded[t : t + b["W"]].T).sum(axis=1) for t in range(len(u))])
        return linear("out_proj", linear("c_proj", u) * (y + w.get("conv.bias", 0)))
