//! Lanes by measuring: on a device's first use every kernel that can work in several ways does one case in each of them. What they
//! took is kept in a file by adapter and driver, and the fastest is chosen where it is clearly faster than the usual.

use super::{Case, Job, Lanes, SOURCES};
use crate::files::write_in_folder;
use crate::gpu::{Caps, Gpu, GpuError, GpuOptions};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use web_time::{Duration, Instant};

/// What takes more than this part of the usual's time is not clearly faster: times differ from run to run.
const CLEARLY: f64 = 0.9;
/// Ways that were not tried by then wait for the next start.
const PATIENCE: Duration = Duration::from_secs(20);
/// A way is timed so often, or until this time has passed.
const RUNS: usize = 5;
const RUNS_PATIENCE: Duration = Duration::from_millis(300);

/// What a file keeps: seconds by kernel and lanes. `None`: refused, wrong, or the device was lost with it. It is written
/// before a way is tried, so that what takes the program with it is not tried twice.
#[derive(Clone, Default, PartialEq, Debug, Serialize, Deserialize)]
struct Table {
    device: String,
    kernels: BTreeMap<String, BTreeMap<String, Option<f64>>>,
}

/// Measures a device's kernels, or knows what was measured.
pub struct Tuner {
    path: PathBuf,
    table: Table,
    patience: Duration,
}

/// What is known of one kernel.
#[derive(Clone, PartialEq, Debug)]
pub struct Tuned {
    pub kernel: &'static str,
    pub lanes: String,
    /// How many times as fast as the usual lanes; none where those are chosen.
    pub gain: Option<f64>,
    /// Whether all ways were tried.
    pub done: bool,
}

/// What matters most comes first.
fn tuned_cases() -> Vec<(Case, Job, &'static str)> {
    let cases = SOURCES.iter().flat_map(|source| (source.cases)());
    let mut cases: Vec<_> = cases.filter_map(|case| case.tunes.map(|(job, kernel)| (case, job, kernel))).collect();
    cases.sort_by_key(|(_, job, _)| *job);
    cases
}

/// The names of a kernel's candidates, the usual first.
fn names(job: Job, caps: &Caps) -> Vec<String> {
    Lanes::candidates(job, caps).iter().map(Lanes::to_string).collect()
}

impl Tuner {
    /// For a device that was opened this way, if it is to be tuned.
    pub fn of(options: &GpuOptions, gpu: &Gpu) -> Option<Self> {
        options.cache_dir.as_ref().filter(|_| options.autotune).map(|dir| Self::open(dir, gpu.caps()))
    }

    /// Takes up what an earlier run found; a file that is no such table counts as none.
    fn open(dir: &Path, caps: &Caps) -> Self {
        let device = format!(
            "{}, {}, {}, {}{}, fathom {}",
            caps.adapter,
            caps.backend,
            caps.driver,
            // What was found without cooperative matrices holds with them, and the other way round.
            Caps { coop: vec![], ..caps.clone() }.tier(),
            if caps.barriers { "" } else { " - barriers" },
            env!("CARGO_PKG_VERSION")
        );
        let mut hasher = DefaultHasher::new();
        device.hash(&mut hasher);
        let path = dir.join(format!("tuning-{:016x}.json", hasher.finish()));
        let kept = std::fs::read(&path).ok().and_then(|file| serde_json::from_slice::<Table>(&file).ok());
        let table = kept.filter(|table| table.device == device).unwrap_or_else(|| Table { device, ..Table::default() });
        Self { path, table, patience: PATIENCE }
    }

    /// What is chosen for each kernel that can work in several ways on this device.
    pub fn tuned(&self, caps: &Caps) -> Vec<Tuned> {
        let of = |(_, job, kernel)| {
            let names = names(job, caps);
            let done = names.iter().all(|name| self.was_tried(kernel, name));
            let secs = |name: &String| self.secs(kernel, name);
            let fastest = names.iter().filter_map(|name| Some((name, secs(name)?))).min_by(|a, b| a.1.total_cmp(&b.1));
            let better = fastest.zip(secs(&names[0])).filter(|((_, secs), usual)| *secs < CLEARLY * usual);
            let (lanes, gain) = better.map_or((&names[0], None), |((name, secs), usual)| (name, Some(usual / secs)));
            (names.len() > 1).then(|| Tuned { kernel, lanes: lanes.clone(), gain, done })
        };
        tuned_cases().into_iter().filter_map(of).collect()
    }

    /// Chooses for launches that are made from now on.
    pub fn apply(&self, gpu: &Gpu) {
        for Tuned { kernel, lanes, gain, .. } in self.tuned(gpu.caps()) {
            gpu.choose(kernel, gain.map(|_| lanes));
        }
    }

    /// Tries what was never tried, and applies what is best. `proceed` hears how many ways of how many are done and says whether to go on.
    ///
    /// # Errors
    /// The device broke: on another one it goes on with what comes next.
    pub async fn measure(&mut self, gpu: &Gpu, proceed: &mut dyn FnMut(usize, usize) -> bool) -> Result<(), GpuError> {
        let ways: Vec<(Case, &'static str, Vec<String>)> = tuned_cases()
            .into_iter()
            .map(|(case, job, kernel)| (case, kernel, names(job, gpu.caps())))
            .filter(|(.., names)| names.len() > 1)
            .collect();
        let total = ways.iter().map(|(.., names)| names.len()).sum();
        let (since, mut done) = (Instant::now(), 0);
        'ways: for (case, kernel, names) in &ways {
            let mut tried = false;
            for name in names {
                done += 1;
                if self.was_tried(kernel, name) {
                    continue;
                }
                if since.elapsed() >= self.patience {
                    break 'ways;
                }
                if !proceed(done - 1, total) {
                    return Ok(());
                }
                self.note(kernel, name, None);
                tried = true;
                gpu.choose(kernel, Some(name.clone()));
                let took = secs_of(gpu, case).await;
                gpu.choose(kernel, None);
                gpu.fault()?;
                self.note(kernel, name, took.ok());
            }
            // A device that was idle is slow at first: what came first is measured once more.
            if let Some(first) = self.secs(kernel, &names[0]).filter(|_| tried) {
                let again = secs_of(gpu, case).await;
                gpu.fault()?;
                self.note(kernel, &names[0], Some(again.map_or(first, |secs| secs.min(first))));
            }
        }
        self.apply(gpu);
        Ok(())
    }

    fn was_tried(&self, kernel: &str, name: &str) -> bool {
        self.table.kernels.get(kernel).is_some_and(|times| times.contains_key(name))
    }

    /// What it took, if it came back, and not as nonsense.
    fn secs(&self, kernel: &str, name: &str) -> Option<f64> {
        self.table.kernels.get(kernel)?.get(name).copied()?.filter(|secs| secs.is_finite() && *secs > 0.0)
    }

    fn note(&mut self, kernel: &str, name: &str, secs: Option<f64>) {
        self.table.kernels.entry(kernel.to_string()).or_default().insert(name.to_string(), secs);
        // A folder that cannot be written costs the same time at the next start, no more.
        if let Ok(text) = serde_json::to_vec_pretty(&self.table) {
            let _ = write_in_folder(&self.path, &text);
        }
    }
}

/// The least time of a few runs, after one whose results are compared with the twin's.
async fn secs_of(gpu: &Gpu, case: &Case) -> Result<f64, String> {
    let words = |error: GpuError| error.to_string();
    let prepared = case.prepare(gpu).map_err(words)?;
    prepared.check(gpu).await.map_err(words)??;
    let (since, mut least) = (Instant::now(), f64::INFINITY);
    for _ in 0..RUNS {
        least = least.min(gpu.replay_secs(&prepared.recording).await.map_err(words)?);
        if since.elapsed() > RUNS_PATIENCE {
            break;
        }
    }
    Ok(least)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::{Disabled, Feature};
    use pollster::block_on;

    /// A device on which there is something to choose.
    fn gpu() -> Gpu {
        let options = GpuOptions { disabled: Disabled(vec![Feature::Images]), ..GpuOptions::default() };
        block_on(Gpu::open(&options)).unwrap()
    }

    fn of<'a>(tuned: &'a [Tuned], kernel: &str) -> &'a Tuned {
        tuned.iter().find(|tuned| tuned.kernel == kernel).unwrap()
    }

    #[test]
    fn only_what_is_clearly_faster_is_chosen() {
        let (gpu, dir) = (gpu(), tempfile::tempdir().unwrap());
        let names = names(Job::Product, gpu.caps());
        let chosen = |times: &[Option<f64>]| {
            let mut tuner = Tuner::open(dir.path(), gpu.caps());
            let times = names.iter().cloned().zip(times.iter().copied()).collect();
            tuner.table.kernels.insert("matvec".into(), times);
            tuner.apply(&gpu);
            assert_eq!(gpu.choice("ffn_up"), None);
            (of(&tuner.tuned(gpu.caps()), "matvec").clone(), gpu.choice("matvec"))
        };
        let usual = |done| Tuned { kernel: "matvec", lanes: names[0].clone(), gain: None, done };
        assert_eq!(chosen(&[]), (usual(false), None));
        assert_eq!(chosen(&[Some(1.0), Some(0.95)]), (usual(false), None));
        let (tuned, choice) = chosen(&[Some(1.0), Some(0.8), Some(0.5), None]);
        assert_eq!((tuned.gain, choice.as_ref()), (Some(2.0), Some(&names[2])));
        // Against a usual way that never came back nothing is compared, nor is nonsense.
        assert_eq!(chosen(&[None, Some(0.5)]), (usual(false), None));
        assert_eq!(chosen(&[Some(1.0), Some(-1.0), Some(0.0), Some(f64::INFINITY)]), (usual(false), None));
        assert_eq!(chosen(&vec![Some(1.0); names.len()]), (usual(true), None));
    }

    #[test]
    fn every_way_is_tried_once() {
        let (gpu, dir) = (gpu(), tempfile::tempdir().unwrap());
        let deeper = dir.path().join("deeper");
        let measure = |gpu: &Gpu, patience: Duration, mut proceed: Box<dyn FnMut(usize) -> bool>| {
            let mut tuner = Tuner { patience, ..Tuner::open(&deeper, gpu.caps()) };
            let mut asked = vec![];
            let ended = block_on(tuner.measure(gpu, &mut |done, total| {
                assert!(done < total);
                asked.push(done);
                proceed(done)
            }));
            (tuner, asked, ended)
        };
        let names = names(Job::Product, gpu.caps());

        let (tuner, asked, ended) = measure(&gpu, PATIENCE, Box::new(|done| done < 2));
        assert!(ended.is_ok() && asked == [0, 1, 2]);
        let times = &tuner.table.kernels["ffn_down"];
        assert!(times.len() == 2 && names[..2].iter().all(|name| times[name].is_some_and(|secs| secs > 0.0)), "{times:?}");
        assert_eq!(Tuner::open(&deeper, gpu.caps()).table, tuner.table, "what was found is kept");

        // What breaks the device is noted before it does, and is not tried on the next one.
        let lost = gpu.clone();
        let (tuner, asked, ended) = measure(
            &gpu,
            PATIENCE,
            Box::new(move |_| {
                lost.destroy();
                true
            }),
        );
        assert!(matches!(ended, Err(GpuError::Lost(_))) && asked == [2], "{ended:?}");
        assert_eq!(tuner.table.kernels["ffn_down"].get(&names[2]), Some(&None));

        // What there was no time for is tried at the next start.
        let gpu = self::gpu();
        let (tuner, asked, ended) = measure(&gpu, Duration::ZERO, Box::new(|_| true));
        assert!(ended.is_ok() && asked.is_empty() && tuner.tuned(gpu.caps()).iter().all(|tuned| !tuned.done));
        let (_, asked, ended) = measure(&gpu, PATIENCE, Box::new(|done| done < 4));
        assert!(ended.is_ok() && asked == [3, 4]);

        // Once all were tried nothing is.
        let mut tuner = Tuner::open(&deeper, gpu.caps());
        for (_, job, kernel) in tuned_cases() {
            self::names(job, gpu.caps()).iter().for_each(|name| tuner.note(kernel, name, Some(1.0)));
        }
        let (tuner, asked, ended) = measure(&gpu, PATIENCE, Box::new(|_| true));
        assert!(ended.is_ok() && asked.is_empty() && tuner.tuned(gpu.caps()).iter().all(|tuned| tuned.done));
    }

    #[test]
    fn a_damaged_file_counts_as_none() {
        let (gpu, dir) = (gpu(), tempfile::tempdir().unwrap());
        let mut tuner = Tuner::open(dir.path(), gpu.caps());
        // A time that a reader of decimals who is in a hurry takes for its neighbour.
        tuner.note("matvec", "3 lanes", Some(0.019091102000000002));
        let file = std::fs::read(&tuner.path).unwrap();
        assert_eq!(Tuner::open(dir.path(), gpu.caps()).table, tuner.table);
        let other = String::from_utf8(file.clone()).unwrap().replace("fathom", "other");
        for wrong in [&file[..file.len() / 2], b"[]", b"", other.as_bytes()] {
            std::fs::write(&tuner.path, wrong).unwrap();
            assert!(Tuner::open(dir.path(), gpu.caps()).table.kernels.is_empty());
        }
    }

    #[test]
    fn lanes_have_names_of_their_own() {
        let gpu = gpu();
        for job in [Job::Product, Job::Attention, Job::Tiles] {
            let names = names(job, gpu.caps());
            let distinct: std::collections::BTreeSet<&String> = names.iter().collect();
            assert!(names.len() > 2 && distinct.len() == names.len(), "{names:?}");
        }
        for (case, job, kernel) in tuned_cases() {
            let prepared = case.prepare(&gpu).unwrap();
            assert!(prepared.launches.iter().any(|(program, _)| program.name == kernel), "{job:?}: no {kernel} in {}", case.name);
        }
    }
}
