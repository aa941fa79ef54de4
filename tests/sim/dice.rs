//! Where every decision of the world comes from: a seed, or a script that is being enumerated.

/// Random decisions from a seed (SplitMix64), or scripted ones.
#[derive(Clone, Debug)]
pub struct Dice {
    source: Source,
}

#[derive(Clone, Debug)]
enum Source {
    Seed(u64),
    Script(Script),
}

/// One path through the tree of decisions; decisions beyond `depth` take their first option.
#[derive(Clone, Debug, Default)]
pub struct Script {
    taken: Vec<u32>,
    arity: Vec<u32>,
    at: usize,
    depth: usize,
    /// Whether the order of events is a decision yet.
    ordering: bool,
}

impl Script {
    pub fn new(depth: usize) -> Self {
        Self {
            depth,
            ..Self::default()
        }
    }

    /// The next path in the tree, in depth-first order; `None` when all were taken.
    pub fn next(mut self) -> Option<Self> {
        self.taken.truncate(self.arity.len());
        while let Some(last) = self.taken.pop() {
            let arity = self.arity.pop()?;
            if last + 1 < arity {
                self.taken.push(last + 1);
                self.arity.clear();
                self.at = 0;
                self.ordering = false;
                return Some(self);
            }
        }
        None
    }

    pub fn path(&self) -> &[u32] {
        &self.taken
    }

    fn choose(&mut self, n: u32) -> u32 {
        if self.at >= self.depth {
            return 0;
        }
        let choice = self.taken.get(self.at).copied().unwrap_or(0);
        if self.at == self.taken.len() {
            self.taken.push(choice);
        }
        self.arity.truncate(self.at);
        self.arity.push(n);
        self.at += 1;
        choice
    }
}

impl Dice {
    pub fn seed(seed: u64) -> Self {
        let mut dice = Self {
            source: Source::Seed(seed ^ 0x6e6f_7567_6874),
        };
        dice.raw();
        dice
    }

    pub fn script(script: Script) -> Self {
        Self {
            source: Source::Script(script),
        }
    }

    pub fn into_script(self) -> Option<Script> {
        match self.source {
            Source::Script(script) => Some(script),
            Source::Seed(_) => None,
        }
    }

    pub fn scripted(&self) -> bool {
        matches!(self.source, Source::Script(_))
    }

    fn raw(&mut self) -> u64 {
        match &mut self.source {
            Source::Seed(state) => {
                *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
                let mut z = *state;
                z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
                z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
                z ^ (z >> 31)
            }
            Source::Script(_) => 0,
        }
    }

    /// A number below `n`; a decision in a script.
    pub fn below(&mut self, n: u32) -> u32 {
        if n < 2 {
            return 0;
        }
        if let Source::Script(script) = &mut self.source {
            return script.choose(n);
        }
        u32::try_from(self.raw() % u64::from(n)).unwrap()
    }

    /// Whether something of this likelihood happens; what cannot happen is no decision.
    pub fn chance(&mut self, per_mille: u32) -> bool {
        match per_mille {
            0 => false,
            1000.. => true,
            _ if self.scripted() => self.below(2) == 1,
            _ => self.below(1000) < per_mille,
        }
    }

    /// A number from `low` up to and including `high`; a script takes `low` without deciding.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        if self.scripted() || high <= low {
            return low;
        }
        low + self.raw() % (high - low + 1)
    }

    pub fn pick<T: Copy>(&mut self, options: &[T]) -> T {
        options[self.below(u32::try_from(options.len()).unwrap()) as usize]
    }

    /// Which of so many events comes first; in a script a decision once it was armed.
    pub fn order(&mut self, n: u32) -> u32 {
        match &self.source {
            Source::Script(script) if !script.ordering => 0,
            _ => self.below(n),
        }
    }

    /// From now on a script decides the order of events.
    pub fn arm(&mut self) {
        if let Source::Script(script) = &mut self.source {
            script.ordering = true;
        }
    }

    /// Breaks ties between events of the same moment; no decision in a script.
    pub fn tie(&mut self) -> u32 {
        u32::try_from(self.raw() & 0xffff).unwrap()
    }
}
