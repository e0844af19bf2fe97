//! The check of a rotation before anything is written: source and plan must compute the same logits.
//!
//! Driven like a run, window by window: each weight that the two forward passes need is a plan of one tensor, whose windows are
//! multiplied as they are finished.

use crate::driver::run_loop::Windows;
use crate::job_runner::{JobRunner, StartedJob};
use quantoscope_core::error::{Code, Error, Result};
use quantoscope_core::format::Checkpoint;
use quantoscope_core::job::{Done, Window};
use quantoscope_core::model::config::Config;
use quantoscope_core::model_equivalence::{ModelPass, TensorRequest, compare_logits, tokens};
use quantoscope_core::plan::Plan;
use quantoscope_core::report::EquivalenceView;
use std::cell::RefCell;
use std::rc::Rc;

/// Options of the check, as on the command line.
pub(crate) struct CheckOptions {
    /// `--probe-tokens`
    pub tokens: u32,
    /// `--tolerance`
    pub tolerance: f64,
    /// `--allow-unprobed`
    pub allow_unprobed: bool,
}

/// A check in progress.
pub(crate) struct EquivalenceCheck {
    passes: RefCell<Passes>,
    /// Set where the model cannot be run and `allow_unprobed` accepts that: then there are no windows.
    unprobed: Option<EquivalenceView>,
    /// Runs the plan of the weight that is read now.
    runner: RefCell<Option<JobRunner>>,
}

struct Passes {
    /// The pass over the source, then that over the plan.
    both: Vec<ModelPass>,
    /// Which of the two runs; their number at the end.
    current: usize,
    /// The weight that is read now.
    request: Option<TensorRequest>,
    /// Rotated elements of the plan.
    elements: u64,
    options: CheckOptions,
}

impl EquivalenceCheck {
    /// The check that `plan` of `checkpoint` needs; `None` where nothing is rotated.
    ///
    /// # Errors
    /// `unsupported_rotation` where the model cannot be run and `allow_unprobed` is false.
    pub(crate) fn new(
        checkpoint: &Checkpoint,
        plan: &Plan,
        options: CheckOptions,
    ) -> Result<Option<EquivalenceCheck>> {
        let Some(conversion) = &plan.conversion else { return Ok(None) };
        let (Some(rotated), Some(rotation)) = (&conversion.rotation, conversion.recipe.rotate) else {
            return Ok(None);
        };
        let elements = rotated.elements;
        let config = Config::parse(checkpoint.config.as_deref().unwrap_or_default());
        let both = config.and_then(|config| {
            let tokens = tokens(rotation.seed, options.tokens, config.vocab);
            Ok(vec![ModelPass::source(checkpoint, &tokens)?, ModelPass::planned(checkpoint, plan, &tokens)?])
        });
        let (both, unprobed) = match both {
            Ok(both) => (both, None),
            Err(e) if options.allow_unprobed => {
                (Vec::new(), Some(EquivalenceView::unprobed(elements, e.to_string())))
            }
            Err(e) => {
                let message = format!("{}: the rotated model cannot be run to check it", e.detail().message);
                return Err(e.explained(Code::UnsupportedRotation, message));
            }
        };
        let passes = RefCell::new(Passes { both, current: 0, request: None, elements, options });
        Ok(Some(EquivalenceCheck { passes, unprobed, runner: RefCell::default() }))
    }

    /// What was found, at the end.
    ///
    /// # Errors
    /// `rotation_off` where the logits differ by more than the tolerance.
    pub(crate) fn outcome(&self) -> Result<EquivalenceView> {
        if let Some(unprobed) = &self.unprobed {
            return Ok(unprobed.clone());
        }
        let passes = self.passes.borrow();
        let [before, after] = passes.both.as_slice() else { return Err(misuse()) };
        let found = compare_logits(before, after, passes.options.tokens, passes.options.tolerance)?;
        Ok(EquivalenceView::probed(passes.elements, found))
    }
}

impl Passes {
    /// The next weight to read.
    fn next_request(&mut self) -> Result<Option<&TensorRequest>> {
        while let Some(pass) = self.both.get(self.current) {
            self.request = pass.request()?;
            if self.request.is_some() {
                break;
            }
            self.current += 1;
        }
        Ok(self.request.as_ref())
    }

    /// Hands a finished window to the pass that asked for it.
    fn feed(&mut self, window: &Window, values: &[u8]) -> Result<()> {
        let pass = self.both.get_mut(self.current).ok_or_else(misuse)?;
        pass.feed(self.request.as_ref().ok_or_else(misuse)?, window, values)
    }
}

impl Windows for EquivalenceCheck {
    fn next_window(&self) -> Result<Option<StartedJob>> {
        loop {
            let mut runner = self.runner.borrow_mut();
            if let Some(current) = runner.as_mut() {
                if let Some(started) = current.next_window()? {
                    return Ok(Some(started));
                }
                *runner = None;
            }
            let mut passes = self.passes.borrow_mut();
            let Some(request) = passes.next_request()? else { return Ok(None) };
            *runner = Some(JobRunner::new(Rc::new(request.plan.clone()))?);
        }
    }

    /// Hands the values of the window to the pass.
    fn finish(&self, started: &mut StartedJob, done: Result<Done>) -> Result<bool> {
        let mut runner = self.runner.borrow_mut();
        let restarted = runner.as_mut().ok_or_else(misuse)?.finish(started, done.map_err(unusable))?;
        self.passes.borrow_mut().feed(started.window(), started.payload())?;
        Ok(restarted)
    }

    fn reuse(&self, started: StartedJob) {
        if let Some(runner) = self.runner.borrow_mut().as_mut() {
            runner.reuse(started);
        }
    }

    fn label(&self, _: &StartedJob) -> String {
        String::new()
    }

    fn on_device(&self) -> bool {
        false
    }
}

/// A value that is not finite spoils every logit, so it is refused whatever the recipe allows.
fn unusable(error: Error) -> Error {
    match (error.code(), error.detail().element) {
        (Code::NonFinite, Some(at)) => {
            let message = "the value is NaN or infinite: a rotated model with it cannot be checked";
            Error::new(Code::NonFinite, message).element(at)
        }
        _ => error,
    }
}

fn misuse() -> Error {
    Error::new(Code::Usage, "there is no window to run")
}
