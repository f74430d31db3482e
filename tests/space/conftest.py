from hypothesis import settings

# A slow machine is no failure.
settings.register_profile("polymix", deadline=None)
settings.load_profile("polymix")
