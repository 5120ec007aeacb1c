//! The report of a comparison, as Markdown: what was trained, what came of it, and what the tests say.

use std::fmt::Write as _;
use std::path::Path;

use arrakis_bench::hypothesis::{Comparison, Correction, Hypothesis, Samples, Summary};

use crate::compare::{Contestant, Outcome};
use crate::{Mixer, Result};

/// The report: `timed` are the outcomes at equal time if there are any, `curves` a picture beside the report.
///
/// Differences are paired by seed and tested by Student's t and by flipping signs, the p-values of the t corrected by
/// Holm over all models of a table. With fewer than two seeds there is nothing to test.
pub fn report(
    contestants: &[Contestant],
    outcomes: &[Outcome],
    timed: Option<&[Outcome]>,
    curves: &Path,
) -> Result<String> {
    let mut page = String::from("# Models compared\n\n");
    if let Some(first) = contestants.first() {
        let (config, training) = (&first.config, &first.training);
        let _ = writeln!(
            page,
            "{} layers, {} heads, `d_model` {}, context {}, positions {}; {} seeds, batches of {} windows, rate {}, warm-up \
             {}, decay {}, dropout {}; {} threads. Losses are those of the last tenth of the text, of each model at its \
             best evaluation.\n",
            config.n_layers,
            config.n_heads,
            config.d_model,
            config.context,
            config.positions,
            training.seeds.len(),
            training.batch,
            training.rate,
            training.warm_up,
            training.decay,
            training.dropout,
            tch::get_num_threads(),
        );
    }
    page.push_str("## At equal size and steps\n\n");
    section(&mut page, outcomes)?;
    let _ = writeln!(page, "![Validation loss while training]({})\n", curves.display());
    if let Some(timed) = timed {
        page.push_str("## At equal time\n\nSteps are chosen so that each trains as long as the first did.\n\n");
        section(&mut page, timed)?;
    }
    let originals = contestants.iter().filter(|contestant| contestant.config.mixer == Mixer::Original);
    for original in originals {
        let _ = writeln!(
            page,
            "`{}` sees the tokens that it is to foresee, so its loss is no evidence of anything.\n",
            original.name
        );
    }
    Ok(page)
}

fn section(page: &mut String, outcomes: &[Outcome]) -> Result<()> {
    let Some((control, others)) = outcomes.split_first() else { return Ok(()) };
    page.push_str("| model | parameters | steps | ms a step | nats per token | bits per character |\n");
    page.push_str("|---|---|---|---|---|---|\n");
    for outcome in outcomes {
        let trained = &outcome.trained;
        let _ = writeln!(
            page,
            "| {} | {} | {} | {:.1} | {} | {} |",
            outcome.name,
            trained.parameters,
            trained.steps,
            1000.0 * outcome.seconds_per_step(),
            spread(&trained.nats)?,
            spread(&trained.bits_per_character)?,
        );
    }
    page.push('\n');
    page.push_str("| seed |");
    for outcome in outcomes {
        let _ = write!(page, " {} |", outcome.name);
    }
    let _ = writeln!(page, "\n|---|{}", "---|".repeat(outcomes.len()));
    for (place, seed) in control.trained.seeds.iter().enumerate() {
        let numbers: Vec<String> =
            outcomes.iter().map(|outcome| format!("{:.4}", outcome.trained.nats[place])).collect();
        let _ = writeln!(page, "| {seed} | {} |", numbers.join(" | "));
    }
    page.push('\n');
    if control.trained.seeds.len() < 2 || others.is_empty() {
        page.push_str("Too few seeds or models for a test.\n\n");
        return Ok(());
    }
    tests(page, control, others)
}

fn tests(page: &mut String, control: &Outcome, others: &[Outcome]) -> Result<()> {
    let hypothesis = Hypothesis::default();
    let baseline = Samples::new(control.trained.nats.clone())?;
    let mut found: Vec<(&Outcome, Comparison, Comparison)> = Vec::new();
    for other in others {
        let losses = Samples::new(other.trained.nats.clone())?;
        found.push((other, hypothesis.paired(&baseline, &losses)?, hypothesis.sign_flip(&baseline, &losses)?));
    }
    let adjusted = Correction::Holm.adjust(&found.iter().map(|(_, paired, _)| paired.p).collect::<Vec<f64>>())?;
    let _ = writeln!(
        page,
        "| against {} | difference, nats | 95 % interval | p (paired t) | p (Holm) | p (sign flips) |\n|---|---|---|---|---|---|",
        control.name
    );
    for ((other, paired, flipped), holm) in found.iter().zip(&adjusted) {
        let interval = paired
            .interval
            .map_or_else(|| "–".to_owned(), |interval| format!("{:+.4} to {:+.4}", interval.lower, interval.upper));
        let _ = writeln!(
            page,
            "| {} | {:+.4} | {interval} | {:.2e} | {holm:.2e} | {:.2e} |",
            other.name, paired.difference, paired.p, flipped.p
        );
    }
    page.push('\n');
    for ((other, paired, _), holm) in found.iter().zip(&adjusted) {
        let verdict = match (*holm <= hypothesis.level, paired.difference < 0.0) {
            (true, true) => "foresees the text better than",
            (true, false) => "foresees the text worse than",
            (false, _) => "is not shown to differ from",
        };
        let _ = writeln!(page, "- {} {verdict} {}.", other.name, control.name);
    }
    page.push('\n');
    Ok(())
}

/// The mean, and the standard deviation where there are several.
fn spread(values: &[f64]) -> Result<String> {
    let Summary { mean, deviation, .. } = Samples::new(values)?.summary();
    Ok(deviation.map_or_else(|| format!("{mean:.4}"), |deviation| format!("{mean:.4} ± {deviation:.4}")))
}
