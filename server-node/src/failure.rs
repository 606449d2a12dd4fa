//! How a command ends: the exit codes of the contract, with what happened, why and what to do.

/// Why a command failed. Each kind has one exit code.
#[derive(Debug)]
pub enum Failure {
    /// The command was called wrongly: exit 2.
    Usage(String),
    /// What it was given is bad: exit 3.
    Input(String),
    /// Something it needs does not answer: exit 4.
    Unreachable(String),
    /// Something is not what it claims to be: exit 5.
    Integrity(String),
    /// Anything else: exit 1.
    Other(String),
}

impl Failure {
    /// The exit code.
    pub const fn code(&self) -> u8 {
        match self {
            Self::Other(_) => 1,
            Self::Usage(_) => 2,
            Self::Input(_) => 3,
            Self::Unreachable(_) => 4,
            Self::Integrity(_) => 5,
        }
    }

    /// The kind, for `--json`.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Other(_) => "failed",
            Self::Usage(_) => "usage",
            Self::Input(_) => "input",
            Self::Unreachable(_) => "unreachable",
            Self::Integrity(_) => "integrity",
        }
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (Self::Usage(text)
        | Self::Input(text)
        | Self::Unreachable(text)
        | Self::Integrity(text)
        | Self::Other(text)) = self;
        f.write_str(text)
    }
}

impl std::error::Error for Failure {}

impl From<defim_store::StoreError> for Failure {
    fn from(error: defim_store::StoreError) -> Self {
        Self::Other(error.to_string())
    }
}

impl From<defim_light::LightError> for Failure {
    fn from(error: defim_light::LightError) -> Self {
        use defim_light::LightError as E;
        let text = error.to_string();
        match error {
            E::Manifest(_) | E::Round(_) | E::WrongModel { .. } | E::Model(_) => {
                Self::Integrity(text)
            }
            E::Data(_) | E::Update(_) | E::Train(_) | E::Enrolment { .. } => Self::Input(text),
            _ => Self::Other(text),
        }
    }
}

/// What a command gives back.
pub type Outcome<T = ()> = Result<T, Failure>;
