"""p(x) as a product of conditionals, p(x_1) p(x_2 | x_1) ..., each computed by a network (section 1.2.2)."""
