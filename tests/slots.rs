//! Slots beyond the incidents: adopting, the operator, and what a file may say.
