//! How far the opening is: a bar on a terminal, a few lines anywhere else.

use std::io::{self, IsTerminal};

use indicatif::{ProgressBar, ProgressStyle};

/// Tells on stderr how many connections are open.
pub(super) struct Progress {
    total: usize,
    told: usize,
    bar: Option<ProgressBar>,
}

impl Progress {
    pub(super) fn new(total: usize) -> Self {
        let bar = io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new(total as u64);
            let template = "{bar:40} {pos} of {len} connections, {eta} left";
            if let Ok(style) = ProgressStyle::with_template(template) {
                bar.set_style(style);
            }
            bar
        });
        Self { total, told: 0, bar }
    }

    /// `open` of them are.
    pub(super) fn set(&mut self, open: usize) {
        match &self.bar {
            Some(bar) => bar.set_position(open as u64),
            None if self.total >= 1000 && open / 1000 > self.told / 1000 => {
                eprintln!("{open} of {} connections", self.total);
            }
            None => {}
        }
        self.told = open;
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
