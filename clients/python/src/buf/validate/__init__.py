"""Generated code of the validation rules that the contract's protos import."""
