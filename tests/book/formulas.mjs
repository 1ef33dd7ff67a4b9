// Computes what test_formulas.py asks for: JSON on standard input, {name: arguments}, JSON on standard output.
import "../../book/_extra/exhibits/formulas.js";

const { formulas } = globalThis.Exhibits;

const answers = {
  policy: ({ logits, delta, x, y }) => ({
    log_policy: formulas.logPolicy(logits),
    entropy: formulas.entropy(logits),
    covariance: formulas.covariance(logits, x, y),
    change: formulas.entropyChange(logits, delta),
  }),
  gradient: ({ logits, rewards, step, natural }) => {
    const advantage = formulas.advantages(logits, rewards);
    const delta = formulas.logitChange(logits, advantage, step, natural);
    return { advantage, delta, change: formulas.entropyChange(logits, delta) };
  },
  law: ({ entropies, rewards, chosen, level }) => {
    const fit = formulas.fitLaw(entropies, rewards);
    return { ...fit, plan: formulas.bootstrapPlan(fit), draws: formulas.bootstrapDraws(entropies, fit, chosen, level) };
  },
  plan: ({ entropies, rewards }) => formulas.bootstrapPlan(formulas.fitLaw(entropies, rewards)),
  sigmoid: ({ steps, rewards, at }) => {
    const fit = formulas.fitSigmoid(steps, rewards);
    return { loss: fit.loss, predicted: at.map(fit.predict) };
  },
  tokens: ({ logProbs, advantage, fraction, minimum, low, high }) => {
    const covariance = formulas.tokenCovariance(logProbs, advantage);
    return {
      covariance,
      top: [...formulas.selectTop(covariance, fraction, minimum)].sort((i, k) => i - k),
      candidates: formulas.bandCandidates(covariance, low, high),
      drawn: formulas.selectBand(covariance, fraction, low, high, { minimum }).size,
      bound: formulas.positiveBound(logProbs, advantage),
      rivals: Object.keys(formulas.RIVALS),
    };
  },
  terms: ({ ratios, advantage, selected, coefficient, low, high }) =>
    ratios.map((ratio, i) => formulas.tokenTerms(ratio, advantage[i], selected[i], { coefficient, low, high })),
  quantiles: ({ shares, degrees }) => ({
    student: shares.map((share, i) => formulas.studentQuantile(share, degrees[i])),
    normal: shares.map(formulas.normalQuantile),
  }),
  quantile: ({ values, share }) => formulas.quantile(values, share),
  quota: ({ count, fraction, minimum }) => formulas.quota(count, fraction, minimum),
  log: ({ text, told }) => {
    try {
      const rows = formulas.readLog(text);
      const columns = formulas.recognise(rows, told);
      return { columns, points: formulas.trajectory(rows, columns) };
    } catch (error) {
      return { error: error.message };
    }
  },
};

let text = "";
for await (const part of process.stdin) text += part;
const asked = JSON.parse(text);
process.stdout.write(JSON.stringify(asked.map(([name, given]) => answers[name](given))));
