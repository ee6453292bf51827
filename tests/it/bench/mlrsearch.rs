//! Our search controller against the published one, PyPI `MLRsearch` 1.2.1, on simulated devices.
//!
//! A device exists once, here; the published controller runs in a Python child and asks for each
//! trial over a pipe. What a device loses in a trial depends on the load, the duration, and how many
//! trials were made at that load before, on nothing else: both controllers meet the same device.
//!
//! Requirements, for every goal of every device:
//!
//! - **sharp** and **soft** knees lose the same whenever they are asked. Both bounds lie within the
//!   goal's width of the published ones, and the device itself confirms them: a final trial at the
//!   lower bound is within the goal, one at the upper bound is not.
//! - **noisy** and **bimodal** devices have no one right answer; which bounds are found depends on
//!   which trials are made. The same is required of the bounds nevertheless, which holds because
//!   ours makes the same trials. If it is ever taught to go another way, do not loosen this: compare
//!   how often either finds the truth of a device, over many seeds.
//!
//! And on the median, over all devices and in each class, ours needs no more trials.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use ringest_base::sys::chance::Chance;
use ringest_bench::document::stats::median;
use ringest_bench::search::{Goal, Search, SearchSpec, Standing, TrialOutcome};
use serde_json::{Value, json};

/// Devices of each class.
const DEVICES: u64 = 100;

const CLASSES: [Class; 4] = [Class::Sharp, Class::Soft, Class::Noisy, Class::Bimodal];

/// How a device loses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    /// All above its capacity, once its buffer is full: a short trial may hide what a long one shows.
    Sharp,
    /// A little long before its capacity, smoothly more above.
    Soft,
    /// As a sharp one whose capacity differs from trial to trial, with a few datagrams lost now and
    /// then at any load.
    Noisy,
    /// As a sharp one that sometimes, for a whole trial, has a much lower capacity.
    Bimodal,
}

/// A simulated device.
#[derive(Clone, Debug)]
struct Device {
    class: Class,
    seed: u64,
    capacity_pps: f64,
    /// Datagrams it can hold.
    buffer: f64,
    /// Softness of the knee, spread of the noise, or how deep the second mode is; relative.
    spread: f64,
    /// How often the unlucky thing happens, 0 to 1.
    unlucky: f64,
    /// Trials made so far, by load.
    trials: HashMap<u64, u64>,
}

/// Returns a number from 0 to below 1.
fn uniform(draw: &mut Chance) -> f64 {
    draw.below(1 << 53) as f64 / (1_u64 << 53) as f64
}

/// Returns a number from `low` to `high`, every order of magnitude as likely as any other.
fn scale(draw: &mut Chance, low: f64, high: f64) -> f64 {
    low * (high / low).powf(uniform(draw))
}

impl Device {
    fn new(class: Class, seed: u64) -> Self {
        let mut draw = Chance::new(seed);
        let capacity_pps = scale(&mut draw, 3e2, 1e8);
        let has_buffer = draw.below(2) == 0;
        let spread = match class {
            Class::Bimodal => 0.05 + 0.5 * uniform(&mut draw),
            _ => scale(&mut draw, 0.001, 0.1),
        };
        Self {
            class,
            seed,
            capacity_pps,
            buffer: if has_buffer { scale(&mut draw, 1e-3, 0.3) * capacity_pps } else { 0.0 },
            spread,
            unlucky: match class {
                Class::Bimodal => 0.9 * uniform(&mut draw),
                _ => 0.3 * uniform(&mut draw),
            },
            trials: HashMap::new(),
        }
    }

    /// Runs one trial on the device, counts it, and returns its outcome.
    fn trial(&mut self, load_pps: f64, duration: Duration) -> TrialOutcome {
        // The two controllers reckon loads in different ways; what differs is far behind the comma.
        let load = rounded(load_pps.ln() * 1e7);
        let nth = self.trials.entry(load).or_insert(0);
        *nth += 1;
        let key = [*nth, load, rounded(duration.as_secs_f64() * 1e3)];
        let seed = key.iter().fold(self.seed, |seed, part| {
            seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(23) ^ part
        });
        self.outcome(load_pps, duration, &mut Chance::new(seed))
    }

    fn outcome(&self, load_pps: f64, duration: Duration, draw: &mut Chance) -> TrialOutcome {
        let seconds = duration.as_secs_f64();
        let intended = (load_pps * seconds).round();
        let sharp = |capacity_pps: f64| intended - (capacity_pps * seconds + self.buffer).floor();
        let lost = match self.class {
            Class::Sharp => sharp(self.capacity_pps),
            Class::Soft => {
                let over = (load_pps / self.capacity_pps).ln() / self.spread;
                let loss_ratio = 1.0 - (-self.spread * over.exp().ln_1p()).exp();
                if over > 300.0 {
                    sharp(self.capacity_pps)
                } else {
                    (intended * loss_ratio).floor()
                }
            }
            Class::Noisy => {
                let noise: f64 = (0..12).map(|_| uniform(draw)).sum::<f64>() - 6.0;
                let lost = sharp(self.capacity_pps * (self.spread * noise).exp());
                let unlucky = uniform(draw) < self.unlucky;
                lost.max(0.0) + if unlucky { (draw.below(20) + 1) as f64 } else { 0.0 }
            }
            Class::Bimodal if uniform(draw) < self.unlucky => {
                sharp(self.capacity_pps * (1.0 - self.spread))
            }
            Class::Bimodal => sharp(self.capacity_pps),
        };
        TrialOutcome::new(rounded(intended), rounded(intended - lost.clamp(0.0, intended)))
    }
}

/// Returns a number that is not negative, rounded.
fn rounded(number: f64) -> u64 {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "`as` saturates")]
    let whole = number.round() as u64;
    whole
}

/// Returns the goals that devices are searched with, in turn.
fn goals(turn: u64) -> Vec<Goal> {
    let seconds = Duration::from_secs;
    match turn % 5 {
        0 => vec![Goal::ndr(), Goal::pdr()],
        // One long trial beside the median of two.
        1 => vec![
            Goal::rfc2544(),
            Goal { final_trial: seconds(60), duration_sum: seconds(120), ..Goal::pdr() },
        ],
        2 => vec![
            Goal { loss_ratio: 0.05, exceed_ratio: 0.25, relative_width: 0.002, ..Goal::ndr() },
            Goal { relative_width: 0.01, expansion: 3, preceding_targets: 3, ..Goal::ndr() },
            Goal { loss_ratio: 0.01, final_trial: seconds(5), exceed_ratio: 0.8, ..Goal::ndr() },
        ],
        // Nothing that must be free of loss.
        3 => vec![Goal { loss_ratio: 0.1, ..Goal::pdr() }, Goal::pdr()],
        // As short as a smoke test.
        _ => vec![Goal {
            relative_width: 0.02,
            initial_trial: Duration::from_millis(50),
            final_trial: Duration::from_millis(200),
            duration_sum: Duration::from_secs(1),
            preceding_targets: 1,
            ..Goal::ndr()
        }],
    }
}

/// Limits around the capacity; for one device in eight, on the wrong side of it.
fn spec(device: &Device, turn: u64) -> SearchSpec {
    let mut draw = Chance::new(device.seed ^ 0x5eed);
    let (below, above) = (scale(&mut draw, 1.5, 1e3), scale(&mut draw, 1.05, 1e2));
    let capacity_pps = device.capacity_pps;
    let (min, max) = match draw.below(16) {
        0 => (capacity_pps / below / below, capacity_pps / below),
        1 => (capacity_pps * above, capacity_pps * above * above),
        _ => (capacity_pps / below, capacity_pps * above),
    };
    let duration_max = Duration::from_secs(1 << 40);
    SearchSpec { goals: goals(turn), duration_max, ..SearchSpec::ndr_and_pdr(min, max) }
}

/// The bounds that a controller found for a goal.
#[derive(Clone, Copy, Debug)]
struct Found {
    lower_pps: Option<f64>,
    upper_pps: Option<f64>,
    throughput_pps: Option<f64>,
}

/// The results of a controller for all goals, and how many trials it made.
#[derive(Clone, Debug)]
struct Run {
    goals: Vec<Found>,
    trials: u32,
    spent: Duration,
}

fn ours(spec: &SearchSpec, mut device: Device) -> Run {
    let mut search = Search::new(spec.clone()).unwrap();
    while let Some(trial) = search.next_trial() {
        search.record(device.trial(trial.load_pps, trial.duration)).unwrap();
    }
    let found = |result: &ringest_bench::search::GoalResult| {
        assert_ne!(result.standing, Standing::Unfinished);
        Found {
            lower_pps: result.relevant_lower_pps,
            upper_pps: result.relevant_upper_pps,
            throughput_pps: result.conditional_throughput_pps,
        }
    };
    Run {
        goals: search.results().iter().map(found).collect(),
        trials: u32::try_from(search.made().len()).unwrap(),
        spent: search.spent(),
    }
}

/// The published controller, in a child.
struct Published {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Published {
    /// Starts it, or says why it cannot be.
    fn start() -> Result<Self, String> {
        let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
        let python = std::env::var_os("RINGEST_PYTHON")
            .map_or_else(|| root.join("target/venv/bin/python"), PathBuf::from);
        let mut child = Command::new(&python)
            .arg(root.join("tests/mlrsearch/published.py"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| format!("{}: {error}", python.display()))?;
        let (input, output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let mut published = Self { child, input, output: BufReader::new(output) };
        match published.hear() {
            Some(_) => Ok(published),
            None => Err(format!("{} has no package MLRsearch", python.display())),
        }
    }

    fn say(&mut self, message: &Value) {
        writeln!(self.input, "{message}").unwrap();
        self.input.flush().unwrap();
    }

    fn hear(&mut self) -> Option<Value> {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        (!line.is_empty()).then(|| serde_json::from_str(&line).unwrap())
    }

    fn run(&mut self, spec: &SearchSpec, mut device: Device) -> Run {
        let goals: Vec<Value> = spec.goals.iter().map(goal_json).collect();
        self.say(&json!({
            "goals": goals, "min_load_pps": spec.min_load_pps, "max_load_pps": spec.max_load_pps,
        }));
        let (mut trials, mut spent) = (0, Duration::ZERO);
        loop {
            let message = self.hear().expect("the published controller failed, see its stderr");
            if let Some(found) = message["goals"].as_array() {
                let goals = found.iter().map(found_of).collect();
                return Run { goals, trials, spent };
            }
            let load_pps = message["trial"]["load_pps"].as_f64().unwrap();
            let duration =
                Duration::from_secs_f64(message["trial"]["duration_s"].as_f64().unwrap());
            let outcome = device.trial(load_pps, duration);
            trials += 1;
            spent += duration;
            self.say(&json!({"intended": outcome.intended, "forwarded": outcome.forwarded}));
        }
    }
}

impl Drop for Published {
    fn drop(&mut self) {
        // It may have ended already; either way it must not outlive the test.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn goal_json(goal: &Goal) -> Value {
    json!({
        "loss_ratio": goal.loss_ratio,
        "exceed_ratio": goal.exceed_ratio,
        "relative_width": goal.relative_width,
        "initial_trial_s": goal.initial_trial.as_secs_f64(),
        "final_trial_s": goal.final_trial.as_secs_f64(),
        "duration_sum_s": goal.duration_sum.as_secs_f64(),
        "preceding_targets": goal.preceding_targets,
        "expansion": goal.expansion,
    })
}

fn found_of(found: &Value) -> Found {
    Found {
        lower_pps: found["lower_pps"].as_f64(),
        upper_pps: found["upper_pps"].as_f64(),
        throughput_pps: found["throughput_pps"].as_f64(),
    }
}

/// Returns why two bounds of a goal are not the same, or `None`.
fn differ(what: &str, ours: Option<f64>, published: Option<f64>, width: f64) -> Option<String> {
    let agree = match (ours, published) {
        (None, None) => true,
        (Some(ours), Some(published)) => (ours - published).abs() <= width * ours.max(published),
        _ => false,
    };
    (!agree).then(|| format!("{what}: {ours:?}, published {published:?}"))
}

/// Returns the faults of our result for one goal. `longest` is the longest final trial of any goal: it counts
/// for this goal too, and may show a loss that this goal's own trials are too short for.
fn faults(
    goal: &Goal,
    longest: Duration,
    device: &Device,
    (ours, published): (&Found, &Found),
) -> Vec<String> {
    let width = goal.relative_width;
    let mut faults: Vec<String> = [
        differ("lower", ours.lower_pps, published.lower_pps, width),
        differ("upper", ours.upper_pps, published.upper_pps, width),
        differ("throughput", ours.throughput_pps, published.throughput_pps, width),
    ]
    .into_iter()
    .flatten()
    .collect();
    if let (Some(lower), Some(upper)) = (ours.lower_pps, ours.upper_pps)
        && (lower >= upper || upper - lower > width * upper)
    {
        faults.push(format!("{lower} and {upper} are not an interval of width {width}"));
    }
    if matches!(device.class, Class::Sharp | Class::Soft) {
        let loss_ratio = |load_pps, duration| {
            device.outcome(load_pps, duration, &mut Chance::new(0)).loss_ratio()
        };
        let lost_at_lower = ours.lower_pps.map(|lower| loss_ratio(lower, goal.final_trial));
        let lost_at_upper = ours
            .upper_pps
            .map(|upper| loss_ratio(upper, goal.final_trial).max(loss_ratio(upper, longest)));
        if lost_at_lower.is_some_and(|lost| lost > goal.loss_ratio) {
            faults.push("the device loses too much at the lower bound".to_owned());
        }
        if lost_at_upper.is_some_and(|lost| lost <= goal.loss_ratio) {
            faults.push("the device is within the goal at the upper bound".to_owned());
        }
    }
    faults
}

/// Trials or seconds of one controller over some devices.
fn median_of(runs: &[(Run, Run)], figure: impl Fn(&(Run, Run)) -> f64) -> f64 {
    median(&runs.iter().map(figure).collect::<Vec<_>>()).unwrap()
}

/// Says what the runs took, and fails if ours took more trials on the median.
fn compare(name: &str, runs: &[(Run, Run)]) {
    let trials = median_of(runs, |(ours, _)| f64::from(ours.trials));
    let trials_published = median_of(runs, |(_, published)| f64::from(published.trials));
    let seconds = median_of(runs, |(ours, _)| ours.spent.as_secs_f64());
    let seconds_published = median_of(runs, |(_, published)| published.spent.as_secs_f64());
    let as_many = runs.iter().filter(|(ours, published)| ours.trials == published.trials).count();
    println!(
        "{name}: {} devices, {as_many} with as many trials; median trials {trials} (published \
         {trials_published}), median seconds in trials {seconds:.1} (published \
         {seconds_published:.1})",
        runs.len()
    );
    assert!(trials <= trials_published, "{name}: {trials} trials, published {trials_published}");
}

#[test]
fn finds_the_bounds_of_the_published_controller_in_no_more_trials() {
    let mut published = match Published::start() {
        Ok(published) => published,
        Err(reason) => {
            let is_ci = std::env::var("CI").is_ok_and(|ci| ci == "true");
            assert!(!is_ci, "{reason}: `scripts/test` installs it");
            println!("skipped: {reason}; `scripts/test` installs it");
            return;
        }
    };
    let mut all = Vec::new();
    let mut wrong = Vec::new();
    for (class, class_seed) in CLASSES.into_iter().zip(1..) {
        let mut runs = Vec::new();
        for turn in 0..DEVICES {
            let device = Device::new(class, class_seed * 1_000_000 + turn);
            let spec = spec(&device, turn);
            let pair = (ours(&spec, device.clone()), published.run(&spec, device.clone()));
            let longest = spec.goals.iter().map(|goal| goal.final_trial).max().unwrap();
            for (index, goal) in spec.goals.iter().enumerate() {
                let found = (&pair.0.goals[index], &pair.1.goals[index]);
                for fault in faults(goal, longest, &device, found) {
                    wrong.push(format!("{class:?} {turn}, goal {index}: {fault}"));
                }
            }
            runs.push(pair);
        }
        compare(&format!("{class:?}"), &runs);
        all.extend(runs);
    }
    compare("all", &all);
    assert!(wrong.is_empty(), "{} faults:\n{}", wrong.len(), wrong.join("\n"));
}
