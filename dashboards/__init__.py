"""What a clinician sees: a Streamlit application on top of medfusion's public interface.

It draws by kind of `medfusion.core.views.View`, never by the name of a modality.
"""
