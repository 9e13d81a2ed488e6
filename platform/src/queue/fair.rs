//! Fairness: which companies a claim offers slots to. Those with the fewest jobs in flight in this process come first, then
//! those served longest ago.
//!
//! This is a proposal: the claim's SQL decides, by the leases of all processes. Only companies with ready jobs are in
//! memory, as far as this process was notified of them; a sweep of the table finds the others.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap, HashMap};

use domain::CompanyId;

/// Companies offered beyond the free slots, in case some of the first have no ready jobs left.
const SPARE_OFFERS: usize = 8;

/// The companies with ready jobs, in the order of fairness.
#[derive(Debug)]
pub(super) struct FairOrder {
    /// In the order in which they are offered.
    order: BTreeSet<Rank>,
    ready: HashMap<CompanyId, Rank>,
    running: HashMap<CompanyId, usize>,
    /// Companies with a row in `queue_limits`.
    limits: HashMap<CompanyId, Limit>,
    /// The maximum of jobs in flight of a company without a limit of its own.
    cap: usize,
    /// Virtual time: jobs served, divided by weight. A company that has ready jobs again starts from here.
    now: u64,
}

/// A row of `queue_limits`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Limit {
    pub(super) weight: f64,
    pub(super) max_running: Option<usize>,
}

/// Fewest jobs in flight divided by weight first, then the least served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    load: u64,
    served: u64,
    company: CompanyId,
}

/// One job as load or service, so that fractions of it are whole numbers.
const UNIT: f64 = 65_536.0;

impl FairOrder {
    /// No companies yet; `cap` is how many jobs of a company may be in flight at once.
    pub(super) fn new(cap: usize) -> Self {
        FairOrder {
            order: BTreeSet::new(),
            ready: HashMap::new(),
            running: HashMap::new(),
            limits: HashMap::new(),
            cap,
            now: 0,
        }
    }

    pub(super) fn set_limits(&mut self, limits: HashMap<CompanyId, Limit>) {
        self.limits = limits;
    }

    /// Whether the number of jobs in flight is capped for any company.
    pub(super) fn has_caps(&self) -> bool {
        self.cap != usize::MAX || self.limits.values().any(|it| it.max_running.is_some())
    }

    /// A company has ready jobs.
    pub(super) fn add(&mut self, company: CompanyId) {
        if !self.ready.contains_key(&company) {
            let rank = Rank { load: self.load(company, 0), served: self.now, company };
            self.insert(rank);
        }
    }

    /// A company has no ready jobs, or may not run them now.
    pub(super) fn remove(&mut self, company: CompanyId) {
        if let Some(rank) = self.ready.remove(&company) {
            self.order.remove(&rank);
        }
    }

    /// Jobs of a company were claimed.
    pub(super) fn started(&mut self, company: CompanyId, jobs: usize) {
        *self.running.entry(company).or_default() += jobs;
        let served = (jobs as f64 * UNIT / self.weight(company)) as u64;
        self.rerank(company, served);
    }

    /// A job of a company has ended. Returns whether the company was at its cap, so that it may have more ready jobs.
    pub(super) fn ended(&mut self, company: CompanyId) -> bool {
        let was_capped = self.running(company) >= self.cap_of(company);
        if let Some(running) = self.running.get_mut(&company) {
            *running -= 1;
            if *running == 0 {
                self.running.remove(&company);
            }
        }
        self.rerank(company, 0);
        was_capped
    }

    /// Companies to offer for so many free slots, the fairest first, and how many jobs each may get.
    pub(super) fn offers(&mut self, free: usize) -> Vec<(CompanyId, usize)> {
        // Companies at their cap would displace others that may run.
        let may_run = self.order.iter().filter(|rank| self.running(rank.company) < self.cap_of(rank.company));
        let chosen: Vec<Rank> = may_run.take(free + SPARE_OFFERS).copied().collect();
        // Fills the free slots, and as many again as there are spare offers, one by one, each where the load is least.
        let mut filling: BinaryHeap<Reverse<(u64, usize)>> =
            chosen.iter().enumerate().map(|(index, rank)| Reverse((rank.load, index))).collect();
        let mut each = vec![0; chosen.len()];
        for _ in 0..free + SPARE_OFFERS {
            let Some(Reverse((_, index))) = filling.pop() else { break };
            let company = chosen[index].company;
            let max = self.cap_of(company).saturating_sub(self.running(company));
            if each[index] < max {
                each[index] += 1;
            }
            if each[index] < max {
                filling.push(Reverse((self.load(company, each[index]), index)));
            }
        }
        self.now = chosen.first().map_or(self.now, |rank| rank.served.max(self.now));
        chosen.iter().zip(each).filter(|(_, max)| *max > 0).map(|(rank, max)| (rank.company, max)).collect()
    }

    /// Whether no company is known to have ready jobs.
    pub(super) fn is_empty(&self) -> bool {
        self.ready.is_empty()
    }

    fn running(&self, company: CompanyId) -> usize {
        self.running.get(&company).copied().unwrap_or(0)
    }

    fn cap_of(&self, company: CompanyId) -> usize {
        self.limits.get(&company).and_then(|it| it.max_running).unwrap_or(self.cap)
    }

    fn weight(&self, company: CompanyId) -> f64 {
        self.limits.get(&company).map_or(1.0, |it| it.weight)
    }

    fn load(&self, company: CompanyId, more: usize) -> u64 {
        ((self.running(company) + more) as f64 * UNIT / self.weight(company)) as u64
    }

    fn rerank(&mut self, company: CompanyId, served: u64) {
        if let Some(rank) = self.ready.remove(&company) {
            self.order.remove(&rank);
            self.insert(Rank { load: self.load(company, 0), served: rank.served + served, company });
        }
    }

    fn insert(&mut self, rank: Rank) {
        self.ready.insert(rank.company, rank);
        self.order.insert(rank);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BIG: CompanyId = CompanyId(1);
    const SMALL: CompanyId = CompanyId(2);

    fn first(fair: &mut FairOrder) -> CompanyId {
        fair.offers(1)[0].0
    }

    #[test]
    fn a_slot_is_offered_to_the_company_with_the_fewest_in_flight() {
        let mut fair = FairOrder::new(100);
        fair.add(BIG);
        fair.started(BIG, 3);
        fair.add(SMALL);
        assert_eq!(first(&mut fair), SMALL);
        fair.started(SMALL, 4);
        assert_eq!(first(&mut fair), BIG);
    }

    #[test]
    fn companies_with_as_many_in_flight_take_turns() {
        let mut fair = FairOrder::new(100);
        fair.add(BIG);
        fair.add(SMALL);
        let turns: Vec<_> = (0..6)
            .map(|_| {
                let company = first(&mut fair);
                fair.started(company, 1);
                fair.ended(company);
                company
            })
            .collect();
        assert_eq!(turns, [BIG, SMALL, BIG, SMALL, BIG, SMALL]);
    }

    #[test]
    fn a_company_that_comes_back_gets_no_credit_for_its_absence() {
        let mut fair = FairOrder::new(100);
        fair.add(BIG);
        for _ in 0..1_000 {
            assert_eq!(first(&mut fair), BIG);
            fair.started(BIG, 1);
            fair.ended(BIG);
        }
        fair.add(SMALL);
        let of_small = (0..100).filter(|_| {
            let company = first(&mut fair);
            fair.started(company, 1);
            fair.ended(company);
            company == SMALL
        });
        assert!((49..=52).contains(&of_small.count()));
    }

    #[test]
    fn weights_share_the_slots() {
        let mut fair = FairOrder::new(100);
        fair.set_limits(HashMap::from([(BIG, Limit { weight: 3.0, max_running: None })]));
        fair.add(BIG);
        fair.add(SMALL);
        let offers: HashMap<_, _> = fair.offers(40).into_iter().collect();
        assert_eq!((offers[&BIG], offers[&SMALL]), (36, 12));
    }

    #[test]
    fn a_company_is_not_offered_above_its_cap() {
        let mut fair = FairOrder::new(100);
        fair.set_limits(HashMap::from([(SMALL, Limit { weight: 1.0, max_running: Some(2) })]));
        fair.add(SMALL);
        assert_eq!(fair.offers(10), [(SMALL, 2)]);
        fair.started(SMALL, 2);
        assert_eq!(fair.offers(10), []);
        assert!(fair.ended(SMALL));
        assert_eq!(fair.offers(10), [(SMALL, 1)]);
    }

    #[test]
    fn companies_at_their_cap_do_not_displace_those_that_may_run() {
        let mut fair = FairOrder::new(usize::MAX);
        let capped = (10..30).map(CompanyId);
        fair.set_limits(capped.clone().map(|it| (it, Limit { weight: 1.0, max_running: Some(1) })).collect());
        for company in capped {
            fair.add(company);
            fair.started(company, 1);
        }
        fair.add(BIG);
        fair.started(BIG, 5);
        assert_eq!(first(&mut fair), BIG);
    }
}
