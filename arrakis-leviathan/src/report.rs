//! The report of a comparison, as Markdown: what was trained, what came of it, and what the tests say.

use std::fmt::Write as _;
use std::path::Path;

use arrakis_bench::hypothesis::{Samples, Summary};

use crate::compare::{Contestant, Outcome};
use crate::tested::{Tested, tested};
use crate::training::Training;
use crate::{Config, Mixer, Result};

/// The report: `timed` are the outcomes at equal time if there are any, `curves` a picture beside the report.
///
/// Differences are paired by seed and tested by Student's t and by flipping signs, corrected by Holm over all models of a
/// table ([`tested`]). With fewer than two seeds there is nothing to test.
pub fn report(
    contestants: &[Contestant],
    outcomes: &[Outcome],
    timed: Option<&[Outcome]>,
    curves: &Path,
) -> Result<String> {
    let mut page = String::from("# Models compared\n\n");
    if let Some(Contestant { config, training, .. }) = contestants.first() {
        setting(&mut page, config, training);
    }
    let _ = writeln!(page, "## At equal {}\n", equals(outcomes));
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

/// How all models were trained, in words.
fn setting(page: &mut String, config: &Config, training: &Training) {
    let ended = training
        .patience
        .map_or_else(String::new, |patience| format!(", a model ended by {patience} evaluations without progress"));
    let _ = writeln!(
        page,
        "{} layers, {} heads, `d_model` {}, context {}, positions {} where queries can be rotated; {} seeds, batches of {} \
         windows, rate {}, warm-up {}, decay {}, dropout {}{ended}; {} threads. Losses are those of the last tenth of the \
         text, of each model at that of its evaluations, every {} steps, which was best on {} windows of this tenth.\n",
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
        training.evaluate_every,
        training.windows,
    );
}

/// In what models are equal: sizes are if they are within a fiftieth of the first.
fn equals(outcomes: &[Outcome]) -> &'static str {
    let all = |near: &dyn Fn(&Outcome, &Outcome) -> bool| outcomes.iter().all(|outcome| near(outcome, &outcomes[0]));
    let size = all(&|a, b| a.trained.parameters.abs_diff(b.trained.parameters) * 50 <= b.trained.parameters);
    match (size, all(&|a, b| a.trained.steps == b.trained.steps)) {
        (true, true) => "size and steps",
        (true, false) => "size",
        (false, true) => "steps",
        (false, false) => "text and seeds",
    }
}

fn section(page: &mut String, outcomes: &[Outcome]) -> Result<()> {
    let Some(control) = outcomes.first() else { return Ok(()) };
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
    tests(page, &tested(outcomes)?);
    Ok(())
}

fn tests(page: &mut String, tested: &[Tested]) {
    let Some(first) = tested.first() else {
        page.push_str("Too few seeds or models for a test.\n\n");
        return;
    };
    let _ = writeln!(
        page,
        "| against {} | difference, nats | 95 % interval | p (paired t) | Holm | p (sign flips) | Holm |\n\
         |---|---|---|---|---|---|---|",
        first.against
    );
    for Tested { model, difference, interval, p_t, p_t_holm, p_flips, p_flips_holm, .. } in tested {
        let interval = interval.map_or_else(|| "–".to_owned(), |[lower, upper]| format!("{lower:+.4} to {upper:+.4}"));
        let _ = writeln!(
            page,
            "| {model} | {difference:+.4} | {interval} | {p_t:.2e} | {p_t_holm:.2e} | {p_flips:.2e} | {p_flips_holm:.2e} |"
        );
    }
    page.push('\n');
    for Tested { model, against, verdict, .. } in tested {
        let _ = writeln!(page, "- {model} against {against}: {verdict}.");
    }
    page.push('\n');
}

/// The mean, and the standard deviation where there are several.
fn spread(values: &[f64]) -> Result<String> {
    let Summary { mean, deviation, .. } = Samples::new(values)?.summary();
    Ok(deviation.map_or_else(|| format!("{mean:.4}"), |deviation| format!("{mean:.4} ± {deviation:.4}")))
}
