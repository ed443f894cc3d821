//! Which mapping a command reads records by: a preset, or one of the configuration.

use crate::config::{Config, Faults};
use crate::normalize::mapped::{self, Mapping, preset};

/// The choice.
#[derive(Clone, Debug, clap::Args)]
#[group(multiple = false)]
pub(super) struct MappingArgs {
    /// Read records of a known kind of log
    #[arg(long, value_name = "NAME", value_parser = clap::builder::PossibleValuesParser::new(preset::names()))]
    pub(super) preset: Option<String>,
    /// Read records by [ingest.mapping.NAME] of the configuration
    #[arg(long, value_name = "NAME")]
    pub(super) mapping: Option<String>,
}

impl MappingArgs {
    /// The mapping as it is written; none was chosen.
    pub(super) fn chosen(&self, config: &Config) -> Result<Option<mapped::Config>, Faults> {
        if let Some(name) = &self.mapping {
            let missing = || Faults::one("--mapping", "the configuration has no [ingest.mapping] of that name");
            return config.ingest.mapping.get(name).cloned().map(Some).ok_or_else(missing);
        }
        Ok(self.preset.as_deref().and_then(preset::config))
    }

    /// The mapping ready for use; none was chosen.
    pub(super) fn compiled(&self, config: &Config) -> Result<Option<Mapping>, Faults> {
        let compile = |chosen: mapped::Config| chosen.compile();
        self.chosen(config)?.map(compile).transpose().map_err(|faults| Faults::one("--mapping", &faults.join("; ")))
    }
}
