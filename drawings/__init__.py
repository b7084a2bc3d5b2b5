"""The demo catalogue: its products, photographs of them, and the files of the whole catalogue."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submodules=["catalogue", "photographs", "plan", "products", "shapes"],
    submod_attrs={
        "catalogue": ["draw_demo", "is_drawn"],
        "photographs": ["contact_sheet", "draw_photograph"],
        "plan": ["plan_held_out", "plan_train"],
        "products": ["PRODUCTS"],
    },
)
