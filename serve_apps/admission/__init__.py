"""The admission webhook: who decides an approval, as the API server authenticated them."""
