// The formulas behind the exhibits, with nothing of the page in them. Each function follows one in Python, named beside
// it, and the tests hold the two together on random inputs. Entropies and log-probabilities are in nats; rewards keep
// the unit they come in.

globalThis.Exhibits = globalThis.Exhibits || {};

(() => {
  "use strict";

  const sum = (values) => values.reduce((total, value) => total + value, 0);
  const mean = (values) => sum(values) / values.length;
  const rootMeanSquare = (values) => Math.sqrt(mean(values.map((value) => value * value)));

  // ---------------------------------------------------------------- softmax policies: repro.analysis.tabular

  /** log pi(a) of one state, from its logits. `tabular.log_policy` */
  function logPolicy(logits) {
    const highest = Math.max(...logits);
    const normaliser = Math.log(sum(logits.map((logit) => Math.exp(logit - highest))));
    return logits.map((logit) => logit - highest - normaliser);
  }

  /** Probabilities of one state's actions. */
  const policy = (logits) => logPolicy(logits).map(Math.exp);

  /** Entropy of one state in nats. `tabular.entropy` */
  const entropy = (logits) => -sum(logPolicy(logits).map((logP) => Math.exp(logP) * logP));

  /** Each action's share of Cov_{a ~ pi}(x(a), y(a)); the shares add up to it. */
  function covarianceTerms(logits, x, y) {
    const pi = policy(logits);
    const [meanX, meanY] = [x, y].map((values) => sum(values.map((value, a) => pi[a] * value)));
    return pi.map((p, a) => p * (x[a] - meanX) * (y[a] - meanY));
  }

  /** Cov_{a ~ pi}(x(a), y(a)). `tabular.covariance` */
  const covariance = (logits, x, y) => sum(covarianceTerms(logits, x, y));

  /** Advantages of rewards under a policy: each minus their mean under it, as Proposition 1 assumes. */
  function advantages(logits, rewards) {
    const expected = sum(policy(logits).map((p, a) => p * rewards[a]));
    return rewards.map((reward) => reward - expected);
  }

  /** How an update moves the logits: step pi A for the policy gradient (Proposition 1), step A for the natural one. */
  function logitChange(logits, advantage, step, natural) {
    const pi = policy(logits);
    return advantage.map((value, a) => step * (natural ? 1 : pi[a]) * value);
  }

  /** Lemma 1: the entropy change that the covariance predicts, and the one that happens. `tabular.lemma_1` */
  function entropyChange(logits, delta) {
    const moved = logits.map((logit, a) => logit + delta[a]);
    return {
      predicted: -covariance(logits, logPolicy(logits), delta),
      exact: entropy(moved) - entropy(logits),
      moved,
    };
  }

  /** The quadrant of an action, by its log-probability and its advantage beside their means under the policy. */
  function quadrant(logPCentred, advantage) {
    if (advantage >= 0) return logPCentred >= 0 ? "exploit" : "explore";
    return logPCentred >= 0 ? "correct" : "confirm";
  }

  // ---------------------------------------------------------------- the law R = b - a e^H: repro.analysis.law

  function line(x, y) {
    const [meanX, meanY] = [mean(x), mean(y)];
    const centred = x.map((value) => value - meanX);
    const slope = sum(centred.map((value, i) => value * y[i])) / sum(centred.map((value) => value * value));
    return { intercept: meanY - slope * meanX, slope };
  }

  /** Least squares of R = b - a e^H; throws where entropy does not vary. `law.fit_law` */
  function fitLaw(entropies, rewards) {
    if (entropies.length < 3) throw new Error("the law needs at least three points");
    const x = entropies.map(Math.exp);
    if (Math.max(...x) - Math.min(...x) <= 1e-9 * Math.max(...x)) throw new Error("entropy does not vary");
    const { intercept: b, slope } = line(x, rewards);
    const a = -slope;
    const predict = (h) => b - a * Math.exp(h);
    const residuals = rewards.map((reward, i) => reward - predict(entropies[i]));
    const centre = mean(rewards);
    const total = sum(rewards.map((reward) => (reward - centre) ** 2));
    return {
      a,
      b,
      ceiling: b - a,
      r2: total === 0 ? NaN : 1 - sum(residuals.map((value) => value * value)) / total,
      rmse: rootMeanSquare(residuals),
      residuals,
      predict,
    };
  }

  /** What the bootstrap of a fit needs to know of its residuals. `LawFit._draws` */
  function bootstrapPlan(fit) {
    const { residuals } = fit;
    const n = residuals.length;
    const squares = sum(residuals.map((value) => value * value));
    const products = sum(residuals.slice(1).map((value, i) => value * residuals[i]));
    const lag1 = squares === 0 ? 0 : products / squares;
    const rho = Math.min(Math.max(lag1 + (2 + 4 * lag1) / n, 0), 0.95);
    const block = Math.ceil(Math.cbrt(n) - 1e-12);
    const warm = Math.ceil(Math.log(0.01) / Math.log(Math.max(rho, 0.01)) - 1e-12);
    return { n, rho, block, warm, blocks: n - block, perDraw: Math.ceil((n + warm) / block) };
  }

  /**
   * Draws of (a, b) by the moving-block bootstrap of the residuals. `LawFit._draws`
   * @param chosen one row per draw, `plan.perDraw` starts of blocks from 0 to `plan.blocks` - 1
   */
  function bootstrapDraws(entropies, fit, chosen, level) {
    const { n, rho, block, warm } = bootstrapPlan(fit);
    const scale = Math.sqrt(n / (n - 2));
    const innovations = fit.residuals.slice(1).map((value, i) => (value - rho * fit.residuals[i]) * scale);
    const places = Array.from({ length: n - block }, (_, start) => innovations.slice(start, start + block));
    const centres = Array.from({ length: block }, (_, place) => mean(places.map((values) => values[place])));
    const x = entropies.map(Math.exp);
    const centre = mean(x);
    const weight = sum(x.map((value) => (value - centre) ** 2));
    const degrees = Math.max((n * (1 - rho)) / (1 + rho), 4) - 2;
    const tail = (1 + level) / 2;
    const widening = studentQuantile(tail, degrees) / normalQuantile(tail);
    return chosen.map((starts) => {
      let last = 0;
      let count = 0;
      let [slope, total] = [0, 0];
      for (const start of starts) {
        for (let place = 0; place < block && count < n + warm; place += 1, count += 1) {
          last = rho * last + places[start][place] - centres[place];
          if (count >= warm) {
            slope += (x[count - warm] - centre) * last;
            total += last;
          }
        }
      }
      slope /= weight;
      return [fit.a - widening * slope, fit.b + widening * (total / n - slope * centre)];
    });
  }

  /** Interval of the ceiling b - a along one run, from seeded draws; null under eight points. `LawFit.interval` */
  function ceilingInterval(entropies, fit, { level = 0.95, resamples = 999, seed = 1 } = {}) {
    if (entropies.length < 8) return null;
    const plan = bootstrapPlan(fit);
    const random = generator(seed);
    const chosen = Array.from({ length: resamples }, () =>
      Array.from({ length: plan.perDraw }, () => Math.floor(random() * plan.blocks)),
    );
    const ceilings = bootstrapDraws(entropies, fit, chosen, level).map(([a, b]) => b - a);
    return [(1 - level) / 2, (1 + level) / 2].map((share) => quantile(ceilings, share));
  }

  function projectedLoss(x, y) {
    const [meanX, meanY] = [mean(x), mean(y)];
    let [xx, xy, yy, size] = [0, 0, 0, 0];
    for (let i = 0; i < x.length; i += 1) {
      xx += (x[i] - meanX) ** 2;
      xy += (x[i] - meanX) * (y[i] - meanY);
      yy += (y[i] - meanY) ** 2;
      size += x[i] * x[i];
    }
    return xx <= 1e-24 * size || yy === 0 ? 1 : 1 - (xy * xy) / (xx * yy);
  }

  /** R0 + (A - R0) / (1 + (C / step)^B), fitted by least squares; null under five points. `law.FORMS["sigmoid in steps"]` */
  function fitSigmoid(steps, rewards) {
    if (steps.length < 5) return null;
    const positive = steps.filter((step) => step > 0);
    const box = [
      [Math.log(positive[0]), Math.log(10 * positive[positive.length - 1])],
      [Math.log(0.3), Math.log(8)],
    ];
    const shape = ([logC, logB], step) =>
      step > 0 ? 1 / (1 + Math.exp(-Math.exp(logB) * (Math.log(step) - logC))) : 0;
    const loss = (parameters) => projectedLoss(steps.map((step) => shape(parameters, step)), rewards);
    const [cs, bs] = box.map(([low, high], i) => {
      const count = [30, 20][i];
      return Array.from({ length: count }, (_, k) => low + ((high - low) * k) / (count - 1));
    });
    let start = [cs[0], bs[0]];
    let lowest = Infinity;
    for (const c of cs) {
      for (const b of bs) {
        const value = loss([c, b]);
        if (value < lowest) [start, lowest] = [[c, b], value];
      }
    }
    const best = minimise(loss, start, box);
    const { intercept, slope } = line(steps.map((step) => shape(best, step)), rewards);
    return { loss: loss(best), asymptote: intercept + slope, predict: (step) => intercept + slope * shape(best, step) };
  }

  /** Nelder and Mead's simplex inside a box, until it has no size left. */
  function minimise(loss, start, box) {
    const inside = (point) => point.map((value, i) => Math.min(Math.max(value, box[i][0]), box[i][1]));
    const at = (point) => ({ point: inside(point), value: loss(inside(point)) });
    let simplex = [at(start), ...start.map((_, i) => at(start.map((v, k) => (k === i ? v * 1.05 || 0.00025 : v))))];
    for (let turn = 0; turn < 2000; turn += 1) {
      simplex.sort((one, other) => one.value - other.value);
      const [best, worst] = [simplex[0], simplex[simplex.length - 1]];
      const size = Math.max(...simplex.map(({ point }) => Math.max(...point.map((v, i) => Math.abs(v - best.point[i])))));
      if (size <= 1e-10) break;
      const centre = start.map((_, i) => mean(simplex.slice(0, -1).map(({ point }) => point[i])));
      const along = (factor) => at(centre.map((value, i) => value + factor * (worst.point[i] - value)));
      const reflected = along(-1);
      let next = reflected;
      if (reflected.value < best.value) {
        const expanded = along(-2);
        if (expanded.value < reflected.value) next = expanded;
      } else if (reflected.value >= simplex[simplex.length - 2].value) {
        next = along(reflected.value < worst.value ? -0.5 : 0.5);
        if (next.value >= Math.min(reflected.value, worst.value)) {
          simplex = simplex.map(({ point }) => at(point.map((value, i) => best.point[i] + (value - best.point[i]) / 2)));
          continue;
        }
      }
      simplex[simplex.length - 1] = next;
    }
    return simplex.sort((one, other) => one.value - other.value)[0].point;
  }

  // ---------------------------------------------------------------- which tokens: repro.ops, repro.losses

  /** cov_i = (log p_i - mean log p)(A_i - mean A), over all tokens given (Eq. 10). `ops.token_covariance` */
  function tokenCovariance(logProbs, advantage) {
    const [meanLogProb, meanAdvantage] = [mean(logProbs), mean(advantage)];
    return logProbs.map((logProb, i) => (logProb - meanLogProb) * (advantage[i] - meanAdvantage));
  }

  /** The most that a token of positive advantage can reach, for no log-probability is above 0. */
  function positiveBound(logProbs, advantage) {
    return (Math.max(...advantage) - mean(advantage)) * -mean(logProbs);
  }

  /** How many of `count` tokens a fraction is: rounded down, with a minimum. The fraction is read as it is written. */
  function quota(count, fraction, minimum = 1) {
    const [mantissa, exponent = "0"] = fraction.toString().split("e");
    const digits = (mantissa.split(".")[1] || "").length - Number(exponent);
    const scale = 10n ** BigInt(Math.max(digits, 0));
    const whole = BigInt(mantissa.replace(".", "")) * 10n ** BigInt(Math.max(-digits, 0));
    return Math.min(Math.max(Number((BigInt(count) * whole) / scale), minimum), count);
  }

  const highest = (scores, places, count) =>
    new Set([...places].sort((i, k) => scores[k] - scores[i] || i - k).slice(0, count));

  /** KL-Cov's set: the tokens of highest covariance, ties to the earlier one. `ops.select_top` */
  const selectTop = (scores, fraction, minimum = 1) =>
    highest(scores, scores.keys(), quota(scores.length, fraction, minimum));

  /** Places whose covariance lies strictly inside the band: what Clip-Cov draws from. */
  const bandCandidates = (scores, low, high) =>
    [...scores.keys()].filter((i) => scores[i] > low && scores[i] < high);

  /** Clip-Cov's draw from the band, by a seeded generator. `ops.select_band` has the same candidates and count. */
  function selectBand(scores, fraction, low, high, { minimum = 1, seed = 1 } = {}) {
    const candidates = bandCandidates(scores, low, high);
    const random = generator(seed);
    const keys = new Map(candidates.map((place) => [place, random()]));
    const count = quota(scores.length, fraction, minimum);
    return new Set([...candidates].sort((i, k) => keys.get(k) - keys.get(i)).slice(0, count));
  }

  /** Rivals of the covariance: a score for every token, of which the highest are taken; -Infinity for no candidate. */
  const RIVALS = {
    covariance: ({ covariances }) => covariances,
    random: ({ logProbs }, seed = 1) => {
      const random = generator(seed);
      return logProbs.map(() => random());
    },
    "rare and failing": ({ logProbs, advantage }) => logProbs.map((value, i) => (advantage[i] < 0 ? -value : -Infinity)),
    "positive advantage": ({ covariances, advantage }) =>
      covariances.map((value, i) => (advantage[i] > 0 ? value : -Infinity)),
    "high entropy": ({ entropies }) => entropies,
  };

  /**
   * One token's term of each objective, to be minimised, at a ratio r = pi / pi_old (Eq. 4, 12, 14). `repro.losses`
   * @param selected whether the token is restricted
   */
  function tokenTerms(ratio, advantage, selected, { coefficient = 1, low = 0.2, high = 0.2 } = {}) {
    const clipped = (below, above) =>
      Math.max(-ratio * advantage, -Math.min(Math.max(ratio, 1 - below), 1 + above) * advantage);
    return {
      grpo: clipped(low, high),
      clipCov: selected ? 0 : clipped(1, 1),
      klCov: -ratio * advantage + (selected ? coefficient * Math.abs(Math.log(ratio)) : 0),
    };
  }

  // ---------------------------------------------------------------- numbers

  /** The quantile of values between whose neighbours it lies, linearly, as NumPy does by default. */
  function quantile(values, share) {
    const sorted = [...values].sort((one, other) => one - other);
    const place = share * (sorted.length - 1);
    const below = Math.floor(place);
    const above = Math.min(below + 1, sorted.length - 1);
    return sorted[below] + (place - below) * (sorted[above] - sorted[below]);
  }

  /** Uniform numbers in [0, 1) from a seed: mulberry32. */
  function generator(seed) {
    let state = seed >>> 0;
    return () => {
      state = (state + 0x6d2b79f5) >>> 0;
      let bits = Math.imul(state ^ (state >>> 15), state | 1);
      bits ^= bits + Math.imul(bits ^ (bits >>> 7), bits | 61);
      return ((bits ^ (bits >>> 14)) >>> 0) / 4294967296;
    };
  }

  function logGamma(x) {
    // Lanczos, g = 7, nine terms.
    const terms = [
      676.5203681218851, -1259.1392167224028, 771.3234287776531, -176.6150291621406, 12.507343278686905,
      -0.13857109526572012, 9.984369578019572e-6, 1.5056327351493116e-7,
    ];
    const shifted = x - 1;
    const series = terms.reduce((total, term, i) => total + term / (shifted + i + 1), 0.9999999999998099);
    const t = shifted + 7.5;
    return 0.5 * Math.log(2 * Math.PI) + (shifted + 0.5) * Math.log(t) - t + Math.log(series);
  }

  /** Regularised incomplete beta function, by its continued fraction. */
  function incompleteBeta(x, a, b) {
    if (x <= 0 || x >= 1) return x <= 0 ? 0 : 1;
    if (x > (a + 1) / (a + b + 2)) return 1 - incompleteBeta(1 - x, b, a);
    const front = Math.exp(logGamma(a + b) - logGamma(a) - logGamma(b) + a * Math.log(x) + b * Math.log(1 - x)) / a;
    let [c, d] = [1, 1 / (1 - ((a + b) * x) / (a + 1))];
    let fraction = d;
    for (let m = 1; m < 1000; m += 1) {
      for (const term of [
        (m * (b - m) * x) / ((a + 2 * m - 1) * (a + 2 * m)),
        (-(a + m) * (a + b + m) * x) / ((a + 2 * m) * (a + 2 * m + 1)),
      ]) {
        d = 1 / (1 + term * d);
        c = 1 + term / c;
        fraction *= c * d;
      }
      if (Math.abs(c * d - 1) < 1e-16) break;
    }
    return front * fraction;
  }

  /** The value that `cumulative`, which increases, takes to `share`; share > 1/2. */
  function invert(cumulative, share) {
    let [low, high] = [0, 1];
    while (cumulative(high) < share) high *= 2;
    for (let turn = 0; turn < 200 && high - low > 1e-15 * high; turn += 1) {
      const middle = (low + high) / 2;
      if (cumulative(middle) < share) low = middle;
      else high = middle;
    }
    return (low + high) / 2;
  }

  /** Quantile of Student's t with any positive number of degrees of freedom, for a share above 1/2. */
  function studentQuantile(share, degrees) {
    return invert((t) => 1 - incompleteBeta(degrees / (degrees + t * t), degrees / 2, 0.5) / 2, share);
  }

  /** Quantile of the standard normal, for a share above 1/2. */
  function normalQuantile(share) {
    // The error function by its series, which needs no table and is exact to rounding here.
    const cumulative = (x) => {
      if (x > 8) return 1;
      let [term, total] = [x, x];
      for (let n = 1; Math.abs(term) > 1e-18 * total; n += 1) {
        term *= (x * x) / (2 * n + 1);
        total += term;
      }
      return 0.5 + (total * Math.exp((-x * x) / 2)) / Math.sqrt(2 * Math.PI);
    };
    return invert(cumulative, share);
  }

  // ---------------------------------------------------------------- people's own logs

  const NAMES = {
    step: ["step", "steps", "global_step", "_step", "training/global_step"],
    entropy: ["entropy/response_mean", "entropy", "actor/entropy", "train/entropy", "policy/entropy"],
    score: ["accuracy/mean", "accuracy", "score", "eval/accuracy", "reward", "train/reward", "critic/score/mean", "rewards/mean"],
  };

  /** Rows of a CSV file with a header, or of a JSONL file whose lines may nest; numbers where they are numbers. */
  function readLog(text) {
    const lines = text.replace(/^\uFEFF/, "").split(/\r?\n/).filter((row) => row.trim());
    if (!lines.length) throw new Error("the file is empty");
    if (lines[0].trim().startsWith("{")) {
      return lines.map((row, i) => {
        try {
          return flat(JSON.parse(row));
        } catch {
          throw new Error(`line ${i + 1} is not JSON: ${row.slice(0, 40)}`);
        }
      });
    }
    const separator = [",", ";", "\t"].find((mark) => lines[0].includes(mark));
    if (!separator) throw new Error("the first line names no columns; give a CSV file with a header, or JSONL");
    const cells = (row) => row.split(separator).map((cell) => cell.trim().replace(/^"|"$/g, ""));
    const header = cells(lines[0]);
    return lines.slice(1).map((row) => {
      const values = cells(row);
      return Object.fromEntries(header.map((name, i) => [name, values[i]]));
    });
  }

  function flat(value, prefix = "") {
    const found = {};
    for (const [name, inner] of Object.entries(value)) {
      const path = prefix + name;
      if (inner !== null && typeof inner === "object") Object.assign(found, flat(inner, name === "data" ? "" : `${path}/`));
      else found[path] = inner;
    }
    return found;
  }

  /** Which columns are step, entropy and score: by name, or as told; says what there is where it cannot know. */
  function recognise(rows, told = {}) {
    const names = [...new Set(rows.flatMap(Object.keys))];
    const found = {};
    for (const [role, known] of Object.entries(NAMES)) {
      const name = told[role] || known.find((candidate) => names.includes(candidate));
      if (!name || !names.includes(name)) {
        throw new Error(`no column for ${role}; choose one of ${names.slice(0, 20).join(", ")}`);
      }
      found[role] = name;
    }
    return found;
  }

  /** Steps, entropies and scores of rows, by step: a score meets the latest entropy; of a repeated step the last counts. */
  function trajectory(rows, columns) {
    const number = (value) => (value === "" || value === null || value === undefined ? NaN : Number(value));
    const read = rows.map((row) => ["step", "entropy", "score"].map((role) => number(row[columns[role]])));
    const byStep = new Map();
    let latest = NaN;
    for (const [step, entropyHere, reward] of read.filter(([step]) => Number.isFinite(step)).sort((i, k) => i[0] - k[0])) {
      if (Number.isFinite(entropyHere)) latest = entropyHere;
      if (Number.isFinite(reward) && Number.isFinite(latest)) byStep.set(step, { step, entropy: latest, reward });
    }
    return [...byStep.values()];
  }

  Exhibits.formulas = { mean, logPolicy, policy, entropy, covarianceTerms, covariance, advantages, logitChange, entropyChange, quadrant, fitLaw, bootstrapPlan, bootstrapDraws, ceilingInterval, fitSigmoid, tokenCovariance, positiveBound, quota, selectTop, bandCandidates, selectBand, RIVALS, tokenTerms, quantile, generator, studentQuantile, normalQuantile, readLog, recognise, trajectory };
})();
